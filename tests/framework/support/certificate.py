"""A certificate for 127.0.0.1."""

import shutil
import subprocess
from pathlib import Path

WAIT_SECONDS = 60


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate for 127.0.0.1 that is signed by itself, and its key.

    Raises:
        FileNotFoundError: openssl is not installed.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise FileNotFoundError("openssl is required")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    request = ["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]
    curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = [openssl, *request, *curve, *names, *files]
    subprocess.run(command, check=True, capture_output=True, timeout=WAIT_SECONDS)
    return certificate, key

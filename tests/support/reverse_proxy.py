"""nginx and Caddy with the configurations of docs/operations.md, on ports of this machine."""

import contextlib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .documents import code_block, replace_all
from .processes import WAIT_SECONDS, listens, required_program, running, wait_until

HOST = "chat.example.com"

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {documented}
}}
"""
# Added to the global options: no port of its own, and certificates from files only.
CADDY_OPTIONS = "{\n    admin off\n    auto_https disable_redirects\n"


class Certificate(NamedTuple):
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return a client's TLS context that trusts this certificate only."""
        return ssl.create_default_context(cafile=self.certificate)


def make_certificate(folder: Path) -> Certificate:
    """Return a certificate for the host, signed by itself."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    command = (
        *(
            required_program("openssl"),
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ),
        *("-nodes", "-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"),
        *("-keyout", str(made.key), "-out", str(made.certificate)),
    )
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        timeout=WAIT_SECONDS,
    )
    return made


class Ports(NamedTuple):
    """The ports of a proxy on 127.0.0.1."""

    plain: int
    secure: int


@contextlib.contextmanager
def documented_nginx(
    *changes: tuple[str, str],
    nginx: str,
    project: Path,
    folder: Path,
    certificate: Certificate,
    ports: Ports,
    upstream: int,
    environment: dict[str, str],
) -> Iterator[subprocess.Popen[bytes]]:
    """Run nginx before a service on a port; each change replaces a text that has to occur."""
    block = replace_all(
        code_block(project, "nginx", "docs/operations.md"),
        *changes,
        ("/var/log/nginx/access.log", f"{folder}/access.log"),
        ("listen 80;", f"listen 127.0.0.1:{ports.plain};"),
        ("listen 80 default_server;", f"listen 127.0.0.1:{ports.plain} default_server;"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{ports.secure} ssl;"),
        ("listen 443 ssl default_server;", f"listen 127.0.0.1:{ports.secure} ssl default_server;"),
        ("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
        (f"/etc/ssl/certs/{HOST}.pem", str(certificate.certificate)),
        (f"/etc/ssl/private/{HOST}.key", str(certificate.key)),
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, documented=block), "utf-8")
    with running([nginx, "-c", str(configuration)], folder, environment) as proxy:
        wait_until(
            lambda: listens(ports.secure) and listens(ports.plain), proxy, folder / "nginx.log"
        )
        yield proxy


@contextlib.contextmanager
def documented_caddy(
    *changes: tuple[str, str],
    caddy: str,
    project: Path,
    folder: Path,
    certificate: Certificate,
    ports: Ports,
    upstream: int,
    environment: dict[str, str],
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Caddy before a service on a port; each change replaces a text that has to occur."""
    block = replace_all(
        code_block(project, "caddyfile", "docs/operations.md"),
        *changes,
        ("{\n    servers {", f"{CADDY_OPTIONS}    servers {{"),
        ("http:// {", f"http://:{ports.plain} {{\n    bind 127.0.0.1"),
        ("https:// {", f"https://:{ports.secure} {{\n    bind 127.0.0.1"),
        (f"http://{HOST} {{", f"http://{HOST}:{ports.plain} {{\n    bind 127.0.0.1"),
        (
            f"\n{HOST} {{\n",
            f"\n{HOST}:{ports.secure} {{\n    bind 127.0.0.1\n"
            f"    tls {certificate.certificate} {certificate.key}\n",
        ),
        ("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
    )
    configuration = folder / "Caddyfile"
    configuration.write_text(block, "utf-8")
    with running([caddy, "run", "--config", str(configuration)], folder, environment) as proxy:
        wait_until(
            lambda: listens(ports.secure) and listens(ports.plain), proxy, folder / "caddy.log"
        )
        yield proxy

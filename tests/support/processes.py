"""Programs that a test starts: required on PATH, awaited until ready, stopped at the end."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

WAIT_SECONDS = 30.0
# A service in a folder without .env is one of production.
DEVELOPMENT = {
    "APP_ENVIRONMENT": "development",
    "APP_SECRET": "a-secret-of-the-tests-of-the-template-0123456789",
}


def required_program(program: str) -> str:
    """Return the path of a program, or skip the test."""
    # Debian installs servers into /usr/sbin, which is not on every user's PATH.
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed: apt-get install {program}")
    return found


@contextlib.contextmanager
def running(
    command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its output in ``<program>.log``, and stop it at the end."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(WAIT_SECONDS)


def wait_until(
    condition: Callable[[], re.Match[str] | bool | None],
    process: subprocess.Popen[bytes],
    log: Path,
) -> re.Match[str] | bool:
    """Poll until the condition holds, and return its result.

    Raises:
        AssertionError: The process has ended, or the time is over; the message is the log.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if result := condition():
            return result
        time.sleep(0.02)
    raise AssertionError(log.read_text("utf-8", "replace"))


def packages_of(python: Path) -> str:
    """Return the folder of the packages of another environment, for ``PYTHONPATH``."""
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), WAIT_SECONDS):
        return True
    return False

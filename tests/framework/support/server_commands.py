"""ASGI servers as processes, started by their own commands, on a port or a Unix socket."""

import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

WAIT_SECONDS = 20.0
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}

# The command of each server, with the options of a TCP port and of a Unix socket.
COMMANDS: dict[str, tuple[list[str], str, str]] = {
    "documented": (
        [
            *("uvicorn", "--ws", "falcon_pachinko.uvicorn:PushProtocol"),
            *("--http", "falcon_pachinko.uvicorn:BoundedHTTPProtocol", "--ws-max-size", "65536"),
            *("--ws-per-message-deflate", "false", "--no-server-header", "--lifespan", "on"),
        ],
        "--port={port}",
        "--uds={path}",
    ),
    "push": (
        ["uvicorn", "--ws", "falcon_pachinko.uvicorn:PushProtocol", "--lifespan", "on"],
        "--port={port}",
        "--uds={path}",
    ),
    "uvicorn": (
        ["uvicorn", "--ws", "websockets-sansio", "--lifespan", "on"],
        "--port={port}",
        "--uds={path}",
    ),
    "uvicorn without a lifespan": (
        ["uvicorn", "--lifespan", "off"],
        "--port={port}",
        "--uds={path}",
    ),
    "hypercorn": (["hypercorn", "--workers", "0"], "--bind=127.0.0.1:{port}", "--bind=unix:{path}"),
    "granian": (["granian", "--interface", "asgi"], "--port={port}", "--uds={path}"),
    "daphne": (["daphne"], "--port={port}", "--unix-socket={path}"),
}
SERVERS = tuple(COMMANDS)


class Response(NamedTuple):
    """The response to a request; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes


@dataclass
class ServerProcess:
    """A running server.

    Attributes:
        address: The port on 127.0.0.1, or the path of the Unix socket.
        log_path: The file with the output of the process.
    """

    address: int | Path
    log_path: Path

    def connect(self) -> socket.socket:
        """Open a connection to the server."""
        if isinstance(self.address, int):
            return socket.create_connection(("127.0.0.1", self.address), WAIT_SECONDS)
        opened = socket.socket(socket.AF_UNIX)
        opened.settimeout(WAIT_SECONDS)
        try:
            opened.connect(os.fspath(self.address))
        except OSError:
            opened.close()
            raise
        return opened

    def response(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: str | None = None
    ) -> Response:
        """Send a request, and return the response."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            # NOTE: the answer to an accepted handshake has no end.
            content = b"" if response.status == 101 else response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, headers, content)
        finally:
            connection.close()

    def request(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Send a GET, and return the status and the JSON of the response, if it has any."""
        status, _, content = self.response("GET", path, headers)
        return status, json.loads(content) if content.startswith(b"{") else None

    def handshake(self, path: str) -> int:
        """Send a WebSocket handshake, and return the status of the response."""
        return self.request(path, HANDSHAKE)[0]

    def log(self) -> str:
        """Return the output so far."""
        return self.log_path.read_text("utf-8")

    def wait_logged(self, text: str) -> str:
        """Wait until the output contains a text, and return the output."""
        deadline = time.monotonic() + WAIT_SECONDS
        while text not in self.log():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        return self.log()


def free_port() -> int:
    """Return an unused port below the ephemeral ones, which no outgoing connection takes meanwhile."""
    while True:
        with contextlib.suppress(OSError):
            port = random.SystemRandom().randrange(20_000, 32_000)
            socket.create_server(("127.0.0.1", port)).close()
            return port


@contextlib.contextmanager
def serving(
    command: list[str], folder: Path, address: int | Path, **variables: str
) -> Iterator[ServerProcess]:
    """Run the Python command of a server, wait until it listens, and stop it at the end."""
    log_path = folder / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | variables,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = ServerProcess(address, log_path)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                server.connect().close()
                break
            except OSError:
                assert process.poll() is None, server.log()
                assert time.monotonic() < deadline, server.log()
                time.sleep(0.02)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(WAIT_SECONDS)


@contextlib.contextmanager
def serving_by(
    name: str, folder: Path, program: str, *, unix: bool = False, **variables: str
) -> Iterator[ServerProcess]:
    """Serve the ``app`` of a program by the command of a server."""
    (folder / "program.py").write_text(program, "utf-8")
    options, on_port, on_path = COMMANDS[name]
    address: int | Path = folder / "server.sock" if unix else free_port()
    option = (on_path if unix else on_port).format(port=address, path=address)
    command = ["-m", options[0], *options[1:], option, "program:app"]
    if "PYTHONPATH" not in variables:
        # NOTE: the command of a server does not search the folder for the program.
        variables["PYTHONPATH"] = f"{os.environ['PYTHONPATH']}{os.pathsep}{folder}"
    with serving(command, folder, address, **variables) as server:
        yield server

"""Shutdown of a real process by SIGTERM."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import falcon_pachinko

PROGRAM = Path(__file__).parent / "support" / "disconnect_program.py"
SOURCE = Path(falcon_pachinko.__file__).parent.parent
WAIT_SECONDS = 40.0
OPEN_FILES = 1500

CLOSED_WITH_1012 = b"\x88\x02" + (1012).to_bytes(2)
UNMASKED_TEXT = 0x81


class Client:
    """A minimal WebSocket client on a blocking socket."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self.received = b""
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

    def read(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError(f"the server has closed after {self.received!r}")
        self.received += data

    def wait_accepted(self) -> None:
        while b"\r\n\r\n" not in self.received:
            self.read()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head

    def send(self, text: str) -> None:
        """Send a short text, with a mask of zeros."""
        payload = text.encode()
        self.socket.sendall(bytes([UNMASKED_TEXT, 0x80 | len(payload)]) + bytes(4) + payload)

    def receive(self) -> str:
        """Return the next text, which has to be short."""
        while len(self.received) < 2 or len(self.received) < 2 + self.received[1]:
            self.read()
        end = 2 + self.received[1]
        frame, self.received = self.received[:end], self.received[end:]
        assert frame[0] == UNMASKED_TEXT, frame
        return frame[2:].decode()

    def read_to_end(self) -> bytes:
        """Return all data up to the server's close."""
        try:
            while True:
                self.read()
        except EOFError:
            return self.received


class Service:
    """The program in its own process."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.record = folder / "record"
        self.log = folder / "log"
        # NOTE: clients may connect before the server listens: they wait in the socket's backlog.
        with (
            socket.create_server(("127.0.0.1", 0), backlog=2048) as listener,
            self.log.open("w") as log,
        ):
            self.port = listener.getsockname()[1]
            options |= {"record": str(self.record), "listener": listener.fileno()}
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", str(PROGRAM), json.dumps(options)],
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
            )

    def disconnects(self) -> list[str]:
        """Return the lines that the service has recorded."""
        return self.record.read_text().splitlines()

    def stop(self) -> float:
        """Send SIGTERM, wait for the exit, and return the seconds that it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT_SECONDS)
        return time.monotonic() - begun


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Service]:
    service = Service(folder, **options)
    try:
        yield service
    finally:
        service.process.kill()
        service.process.wait(WAIT_SECONDS)


@pytest.fixture
def many_open_files() -> Iterator[None]:
    """Raise the limit of open files for this process and its children."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        pytest.skip(f"the limit of open files is {hard}, {OPEN_FILES} are needed")
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@posix_only
@pytest.mark.parametrize("push", [True, False], ids=["push", "portable"])
def test_shutdown_calls_on_disconnect_for_a_thousand_connections(
    tmp_path: Path, push: bool, many_open_files: None
) -> None:
    count, busy, grace_seconds = 1000, 100, 30
    options = {"grace_seconds": grace_seconds, "disconnect_seconds": 0.2, "work_seconds": 0.5}
    with running(tmp_path, push=push, **options) as service, ExitStack() as stack:
        clients = [Client(service.port, f"/{number}") for number in range(count)]
        for client in clients:
            stack.enter_context(client.socket)
        for client in clients:
            client.wait_accepted()
            assert client.receive() == "welcome"
        for client in clients[:busy]:
            client.send('{"type":"work"}')
        for client in clients[:busy]:
            assert client.receive() == "working"
        seconds = service.stop()
        assert {client.read_to_end() for client in clients} == {CLOSED_WITH_1012}
    log = service.log.read_text()
    assert service.process.returncode == -signal.SIGTERM, log
    assert seconds < grace_seconds
    *disconnects, end = service.disconnects()
    assert Counter(disconnects) == Counter(f"{number} 1012" for number in range(count))
    assert end == "end with 0 connections in 0 rooms"
    assert "Finished server process" in log
    for word in ("Traceback", "ERROR", "WARNING", "exception"):
        assert word not in log


@posix_only
@pytest.mark.parametrize("push", [True, False], ids=["push", "portable"])
def test_on_disconnect_may_outlast_the_grace_period(tmp_path: Path, push: bool) -> None:
    """At its end uvicorn cancels running handlers; ``on_disconnect`` has its own timeout."""
    options = {"grace_seconds": 1, "disconnect_seconds": 1.5, "work_seconds": WAIT_SECONDS}
    with running(tmp_path, push=push, **options) as service, ExitStack() as stack:
        clients = [Client(service.port, f"/{number}") for number in range(20)]
        for client in clients:
            stack.enter_context(client.socket)
            client.wait_accepted()
            assert client.receive() == "welcome"
        # At the end of the grace period one half runs on_disconnect, the other half its handlers.
        for client in clients[10:]:
            client.send('{"type":"work"}')
            assert client.receive() == "working"
        seconds = service.stop()
        assert {client.read_to_end() for client in clients} == {CLOSED_WITH_1012}
    assert service.process.returncode == -signal.SIGTERM
    assert 1.5 < seconds < 10
    *disconnects, end = service.disconnects()
    assert Counter(disconnects) == Counter(f"{number} 1012" for number in range(20))
    assert end == "end with 0 connections in 0 rooms"

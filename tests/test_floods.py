"""What one client costs the service: the memory of its process, and its CPU time during a flood."""

import contextlib
import json
import os
import re
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .support.http_requests import request
from .support.processes import DEVELOPMENT, running, wait_until

FLOOD_SECONDS = 2.0
# Of one core, user and system together.
CPU_SHARE = 0.1
# Twice the bound of an outbox, and what the process itself needs for its first clients.
GROWTH_BYTES = 2 * 1024 * 1024 + 4 * 1024 * 1024
CLOSE_SECONDS = 5.0
TICKS = os.sysconf("SC_CLK_TCK")
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0


class Service:
    """A chat service in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    @property
    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8").rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / TICKS

    @property
    def sockets(self) -> int:
        """The number of open sockets."""
        folder = Path(f"/proc/{self.process.pid}/fd")
        return sum(os.readlink(path).startswith("socket:") for path in folder.iterdir())

    def sign_in(self, name: str) -> str:
        """Sign a user in, and return the token."""
        response = request(self.port, "POST", "/session", {"name": name})
        assert response.status == 201, response
        token: str = json.loads(response.body)["token"]
        return token

    def connect(self, token: str | None, *, reads: bool = True) -> socket.socket:
        """Connect to a room; without a token the service closes with 4401."""
        client = socket.socket()
        if not reads:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(("127.0.0.1", self.port))
        head = (
            f"GET /ws/chat/flooded HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
        if token is not None:
            head += f"Authorization: Bearer {token}\r\n"
        client.sendall(head.encode() + b"\r\n")
        try:
            response = b""
            while b"\r\n\r\n" not in response:
                received = client.recv(1)
                assert received, response
                response += received
            assert response.startswith(b"HTTP/1.1 101 "), response
        except BaseException:
            client.close()
            raise
        return client


@contextlib.contextmanager
def serving(project: Path, python: Path, environment: dict[str, str]) -> Iterator[Service]:
    """Run the service of a project."""
    variables = environment | {"PYTHONPATH": str(project / "src"), "APP_PORT": "0", **DEVELOPMENT}
    with running([str(python), "-u", "-m", "chat_service"], project, variables) as process:
        log = project / f"{python.name}.log"
        address = wait_until(
            lambda: re.search(r"running on http://127.0.0.1:(\d+)", log.read_text("utf-8")),
            process,
            log,
        )
        assert isinstance(address, re.Match)
        yield Service(process, int(address[1]))


@pytest.fixture
def service(
    baked: Callable[..., Path], project_python: Path, environment: dict[str, str]
) -> Iterator[Service]:
    with serving(baked(), project_python, environment) as service:
        yield service


def frame(opcode: int, data: bytes = b"", *, final: bool = True) -> bytes:
    """Return a client's frame of at most 125 bytes."""
    return bytes(((0x80 if final else 0) | opcode, 0x80 | len(data))) + bytes(4) + data


def pour(client: socket.socket, data: bytes, seconds: float, *, reads: bool) -> int:
    """Send data as fast as the service takes it; return the number of bytes."""
    client.setblocking(False)
    piece, position, sent = data * (65_536 // len(data)), 0, 0
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        readable, writable, _ = select.select(
            [client] if reads else [], [client], [], min(left, 0.2)
        )
        try:
            if readable and not client.recv(65_536):
                break
            if writable:
                count = client.send(piece[position:])
                position, sent = (position + count) % len(piece), sent + count
        except BlockingIOError:
            continue
        except OSError:
            break
    return sent


def chat(text: str) -> bytes:
    return frame(
        TEXT, json.dumps({"type": "clientSendMessage", "payload": {"text": text}}).encode()
    )


FLOODS = {
    "pings": frame(PING),
    "long pings": frame(PING, b"x" * 125),
    "pongs": frame(PONG, b"x"),
    "fragments": frame(TEXT, final=False) + frame(CONTINUATION),
    "endless fragments": frame(CONTINUATION, final=False),
    "empty texts": frame(TEXT),
    "binary messages": frame(BINARY, b"x" * 125),
    "messages": chat("hello"),
    "closes": frame(CLOSE, struct.pack("!H", 1000)),
}


@pytest.mark.slow
@pytest.mark.parametrize("signed_in", [False, True], ids=["without a token", "signed in"])
@pytest.mark.parametrize("reads", [False, True], ids=["reads nothing", "reads"])
def test_a_flood_costs_a_tenth_of_a_core_and_the_memory_of_one_outbox(
    baked: Callable[..., Path],
    project_python: Path,
    environment: dict[str, str],
    reads: bool,
    signed_in: bool,
) -> None:
    # Messages within the rate are no flood; each of them is stored.
    bounds = {
        "APP_DATABASE_URL": "none",
        "APP_HANDSHAKE_BURST": "100000",
        "APP_HANDSHAKES_PER_SECOND": "100000",
    }
    with serving(baked(), project_python, environment | bounds) as service:
        service.sign_in("the first request takes memory once")
        for name, data in FLOODS.items():
            token = service.sign_in(name) if signed_in else None
            with service.connect(token, reads=reads) as client:
                if name == "endless fragments":
                    client.sendall(frame(TEXT, final=False))
                memory, cpu_seconds = service.resident_bytes, service.cpu_seconds
                begun = time.monotonic()
                pour(client, data, FLOOD_SECONDS, reads=reads)
                time.sleep(max(0.0, begun + FLOOD_SECONDS - time.monotonic()))
                used = service.cpu_seconds - cpu_seconds
                grown = service.resident_bytes - memory
            print(f"{name}: {used:.2f} s of CPU time, {grown >> 10} KiB")
            assert grown < GROWTH_BYTES, name
            assert used <= CPU_SHARE * FLOOD_SECONDS, f"{name}: {used} s of CPU time"
        assert request(service.port, "GET", "/ready").status == 200


@pytest.mark.slow
def test_a_closed_connection_whose_client_reads_nothing_is_aborted(service: Service) -> None:
    sockets = service.sockets
    with service.connect(None, reads=False) as client:
        pour(client, frame(PING, b"x" * 125), 1.0, reads=False)
        assert service.sockets > sockets
        deadline = time.monotonic() + 2 * CLOSE_SECONDS
        while service.sockets > sockets:
            assert time.monotonic() < deadline, "the connection outlives its close"
            time.sleep(0.05)


@pytest.mark.slow
def test_a_client_that_connects_again_after_each_flood_is_refused(
    service: Service,
) -> None:
    """Each flood costs its address handshakes, so the floods of a client become rare."""
    token, used = service.sign_in("Alice"), service.cpu_seconds
    begun, connections = time.monotonic(), 0
    while (left := begun + 5 * FLOOD_SECONDS - time.monotonic()) > 0:
        try:
            with service.connect(token) as client:
                connections += 1
                pour(client, FLOODS["long pings"], left, reads=True)
        except (AssertionError, OSError):
            time.sleep(0.03)  # refused with 429, which costs about 1 ms of CPU time each time
    assert connections < 30
    assert service.cpu_seconds - used < 2 * CPU_SHARE * 5 * FLOOD_SECONDS


@pytest.mark.slow
def test_a_flood_does_not_delay_another_client(service: Service) -> None:
    token, other = service.sign_in("Alice"), service.sign_in("Bob")
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            try:
                with service.connect(token) as client:
                    pour(client, FLOODS["pings"], 0.5, reads=True)
            except (AssertionError, OSError):
                time.sleep(0.05)

    flooding = threading.Thread(target=flood)
    with service.connect(other) as client:
        flooding.start()
        try:
            for number in range(20):
                client.sendall(chat(f"message {number}"))
                received = b""
                while f"message {number}".encode() not in received:
                    received += client.recv(65_536)
        finally:
            stop.set()
            flooding.join()

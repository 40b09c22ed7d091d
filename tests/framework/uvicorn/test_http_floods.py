"""The memory of a real process while a client without a token floods it with HTTP."""

import contextlib
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "support" / "http_program.py"
WAIT_SECONDS = 20.0
FLOOD_SECONDS = 2.0
FLOOD_BYTES = 200 * 1024 * 1024
# More than the buffers of the kernel take.
TAKEN_BYTES = 16 * 1024 * 1024
GROWTH_KIB = 12 * 1024
LOG_BYTES = 20_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


class Process:
    """The service, its resident memory and its log."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    def resident_kib(self) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0])

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), WAIT_SECONDS)

    def get(self) -> bytes:
        """Return the beginning of a response to a request that is within the bounds."""
        with self.open() as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return client.recv(15)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-B", str(PROGRAM)], stdout=subprocess.PIPE, stderr=errors
        )
    try:
        assert process.stdout is not None
        started = Process(process, int(process.stdout.readline()), log)
        for _ in range(20):  # the first requests allocate for all later ones
            assert started.get() == b"HTTP/1.1 200 OK"
        yield started
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_SECONDS)


def pour(client: socket.socket, piece: bytes) -> int:
    """Send a piece repeatedly without reading; return the bytes taken until the end of the connection."""
    client.setblocking(False)
    deadline, sent = time.monotonic() + FLOOD_SECONDS, 0
    while time.monotonic() < deadline and sent < FLOOD_BYTES:
        if select.select([], [client], [], 0.1)[1]:
            try:
                sent += client.send(piece[sent % len(piece) :])
            except BlockingIOError:
                continue
            except OSError:
                break
    return sent


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n", (b"X: " + b"y" * 1000 + b"\r\n") * 60),
        (b"GET / HTTP/1.1\r\nX: ", b"y" * 65_536),
        (b"GET /", b"y" * 65_536),
        (b"", b"\r\n" * 32_768),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"8\r\nabcdefgh\r\n" * 5_000),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65_536),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            (b"X: " + b"y" * 100 + b"\r\n") * 600,
        ),
        (b"", b"GET / HTTP/1.1\r\n\r\n" * 3_600),
        (b"", b"GET /none HTTP/1.1\r\nUpgrade: none\r\nConnection: upgrade\r\n\r\n" * 1_000),
        (b"", b"\0" * 65_536),
    ],
    ids=[
        "header lines",
        "a header line",
        "a URL",
        "line ends",
        "chunks",
        "a chunk extension",
        "a trailer",
        "pipelined requests whose responses are not read",
        "upgrades",
        "junk",
    ],
)
def test_a_flood_does_not_grow_the_process(process: Process, start: bytes, piece: bytes) -> None:
    before = process.resident_kib()
    with process.open() as client:
        client.sendall(start)
        taken = pour(client, piece)
        grown = process.resident_kib() - before
    print(f"{taken >> 10} KiB taken, {grown:+} KiB")
    assert taken < TAKEN_BYTES
    assert grown < GROWTH_KIB
    assert process.get() == b"HTTP/1.1 200 OK"
    assert process.log.stat().st_size < LOG_BYTES
    assert "Traceback" not in process.log.read_text("utf-8")


def test_silent_and_slow_connections_do_not_stay(process: Process) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(process.open()) for _ in range(300)]
        for client in clients[:100]:
            client.sendall(b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000)
        for client in clients[100:200]:
            client.sendall(b"P")
        deadline = time.monotonic() + WAIT_SECONDS
        for number, client in enumerate(clients):
            client.settimeout(deadline - time.monotonic())
            data = b""
            while piece := client.recv(65_536):
                data += piece
            assert data.startswith(b"HTTP/1.1 408 ") == (number < 200), number
    assert process.log.stat().st_size < LOG_BYTES


def test_a_flood_of_invalid_requests_writes_few_log_lines(process: Process) -> None:
    for _ in range(500):
        with process.open() as client:
            client.sendall(b"\0")
            assert client.recv(15) == b"HTTP/1.1 400 Ba"
    assert process.log.stat().st_size < LOG_BYTES

"""The log of a project under other ASGI servers: a client can forge no line of it."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .support.processes import DEVELOPMENT, listens, packages_of, running, wait_until

SERVERS = {
    "hypercorn": ("hypercorn", "--access-logfile", "-", "--bind", "127.0.0.1:{port}"),
    "granian": ("granian", "--interface", "asgi", "--access-log", "--port", "{port}"),
    "uvicorn": ("uvicorn", "--log-level", "trace", "--port", "{port}"),
}
FORGED = "x%0AINFO:%20forged%1B%5B31m%E2%80%A8%C2%85%E2%80%AE"
HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: http://evil.example\r\n"
)


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_can_forge_no_line(
    server: str,
    baked: Callable[..., Path],
    free_port: Callable[[], int],
    environment: dict[str, str],
    project_python: Path,
    tmp_path: Path,
) -> None:
    port, log = free_port(), tmp_path / f"{Path(sys.executable).name}.log"
    command = [each.format(port=port) for each in SERVERS[server]]
    paths = os.pathsep.join((str(baked() / "src"), packages_of(project_python)))
    variables = environment | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", **DEVELOPMENT}

    def request(path: str, headers: str = "") -> None:
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
            assert client.recv(1_000)

    module = [sys.executable, "-m", *command, "chat_service.asgi:app"]
    with running(module, tmp_path, variables) as process:
        wait_until(lambda: listens(port), process, log)
        request(f"/ws/chat/{FORGED}", HANDSHAKE)
        request(f"/{FORGED}?token=hunter2", "Cookie: session=hunter2\r\n")
        wait_until(lambda: "404" in log.read_text("utf-8"), process, log)
    text = log.read_text("utf-8")
    assert "forged" in text
    assert not [line for line in text.split("\n") if not line.isprintable()]
    assert not [line for line in text.split("\n") if line.startswith("INFO: forged")]
    assert "hunter2" not in text

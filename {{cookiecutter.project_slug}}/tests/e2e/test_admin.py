"""Commands to a single process without Redis, over the socket beside its state file."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..conftest import PACKAGE, SECRET, SOURCES, WAIT_SECONDS

if TYPE_CHECKING:
    from ..conftest import Server

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")

SOCKET = Path("var", "admin.sock")


async def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder of the service."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-m", PACKAGE, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(SOURCES), "APP_SECRET": SECRET, "APP_ENVIRONMENT": "test"},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )


def ask(folder: Path, request: bytes) -> bytes:
    """Send bytes to the socket and return the reply."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_SECONDS)
        connection.connect(str(folder / SOCKET))
        connection.sendall(request)
        return connection.recv(1_000)


async def test_an_announcement_reaches_every_room_of_a_single_process(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve()
    async with server.join("Alice", "lobby") as alice, server.join("Bob", "other") as bob:
        done = await command(tmp_path, "announce", "Tea!")
        assert (done.returncode, done.stdout) == (0, "announced to 2 rooms\n"), done.stderr
        for client in (alice, bob):
            await client.expect("serverSystemAnnouncement", text="Tea!")


async def test_only_the_user_of_the_service_may_send_commands(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve()
    status = (tmp_path / SOCKET).stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600
    server.stop()
    assert not (tmp_path / SOCKET).exists()
    done = await command(tmp_path, "announce", "Tea!")
    assert done.returncode == 1
    assert "announced to no room: no service answers at var/admin.sock" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "request_line", [b"\n", b"{\n", b'{"announce":7}\n', b'{"sing":"x"}\n', b"\xff\n"]
)
async def test_an_invalid_command_gets_an_error(
    serve: Callable[..., Server], tmp_path: Path, request_line: bytes
) -> None:
    serve()
    assert b'"error"' in ask(tmp_path, request_line)


async def test_a_command_that_is_too_long_ends_its_connection(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve()
    with contextlib.suppress(OSError):  # the service may close before it has read all of it
        assert ask(tmp_path, b'{"announce":"' + b"x" * 200_000 + b'"}\n') == b""
    async with server.join("Alice", "lobby") as alice:
        assert (await command(tmp_path, "announce", "Tea!")).returncode == 0
        await alice.expect("serverSystemAnnouncement", text="Tea!")


async def test_the_socket_of_a_killed_process_is_replaced_and_that_of_another_one_is_not(
    serve: Callable[..., Server], start: Callable[..., Server], tmp_path: Path
) -> None:
    killed = serve()
    killed.process.kill()
    await killed.wait_ended()
    assert (tmp_path / SOCKET).exists()
    first, second = serve(), serve()
    assert "no commands can be sent" not in first.output()
    assert "another process with the same APP_STATE_FOLDER has it" in second.output()
    second.stop()
    async with first.join("Alice", "lobby"):
        assert (await command(tmp_path, "announce", "Tea!")).stdout == "announced to 1 rooms\n"

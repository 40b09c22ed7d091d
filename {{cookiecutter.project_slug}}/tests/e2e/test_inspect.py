"""The command ``inspect`` and the other commands of a process without Redis, over its admin socket."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from {{ cookiecutter.package_name }}.__main__ import main
from {{ cookiecutter.package_name }}.messages import ServerNewMessage

from ..conftest import PACKAGE, SECRET, SOURCES, WAIT_SECONDS, Server
from ..valkey import running_valkey

FOLDER = "var"


def sockets_of(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("admin-*"))


@pytest.fixture(autouse=True)
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands run in the folder of the service, with its settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APP_ENVIRONMENT", "test")
    monkeypatch.setenv("APP_SECRET", SECRET)


async def command(*arguments: str) -> tuple[int, str]:
    """Run a command in a thread of this process; return its status, and its output or its error."""

    def run() -> tuple[int, str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            try:
                main(list(arguments))
            except SystemExit as error:
                return 1, str(error)
        return 0, output.getvalue()

    return await asyncio.to_thread(run)


def start_tail(*arguments: str) -> subprocess.Popen[str]:
    """Start a tail in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", PACKAGE, "inspect", "--seconds", "60", *arguments],
        env=os.environ | {"PYTHONPATH": str(SOURCES), "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


async def inspect(*arguments: str) -> list[dict[str, Any]]:
    """Return the processes that ``inspect --json`` shows."""
    status, output = await command("inspect", "--json", *arguments)
    assert status == 0, output
    processes: list[dict[str, Any]] = json.loads(output)["processes"]
    return processes


async def request(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    """Send lines to an admin socket and return its answers."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            writer.writelines(lines)
            writer.write_eof()
            return [json.loads(line) async for line in reader]
    finally:
        await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection to an admin socket."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_inspect_shows_rooms_connections_and_close_codes(
    serve: Callable[..., Server], tmp_path: Path, room: str
) -> None:
    server = serve()
    (path,) = sockets_of(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.name.startswith(f"admin-{server.process.pid}-")
    async with server.join("Carol", room):
        pass
    async with server.join("Alice", room), server.join("Bob", room):
        async with asyncio.timeout(WAIT_SECONDS):
            while (process := (await inspect())[0])["connection_count"] != 2:
                pass
        assert process["pid"] == server.process.pid
        assert (process["room_count"], process["pending_count"]) == (1, 0)
        assert process["rooms"] == [{"name": room, "users": 2, "connections": 2}]
        assert process["closes"] == {"1000": 1}
        by_user = {each["user"]: each for each in process["connections"]}
        assert by_user["Alice"]["route"] == server.websocket_path + "/{room_name}"
        assert by_user["Alice"]["rooms"] == [room]
        assert by_user["Alice"]["backlog_bytes"] == 0
        assert 0 <= by_user["Alice"]["seconds"] < 2 * WAIT_SECONDS

        (process,) = await inspect("--user", "Alice")
        assert [each["user"] for each in process["connections"]] == ["Alice"]
        assert process["connection_count"] == 2

        status, output = await command("inspect")
        assert status == 0, output
        assert f"process {server.process.pid}: 2 connections, 0 handshakes, 1 rooms\n" in output
        assert "close codes since the start: 1000: 1\n" in output
        rows = [line.split() for line in output.splitlines()]
        assert [room, "2", "2"] in rows
        (alice,) = [row for row in rows if by_user["Alice"]["id"] in row]
        assert (alice[1], alice[2], alice[-1]) == ("Alice", by_user["Alice"]["route"], room)
    server.stop()
    assert sockets_of(tmp_path) == []


async def test_a_tail_shows_the_messages_to_a_room_or_a_user(
    serve: Callable[..., Server], room: str
) -> None:
    server = serve()
    async with server.join("Alice", room) as alice, server.join("Bob", "other"):
        tails = [
            start_tail("--tail", room, "--json"),
            start_tail("--tail-user", "Alice"),
        ]
        try:
            # NOTE: a tail shows what is sent after its start, which nothing reports: the message is repeated.
            seen = [asyncio.create_task(asyncio.to_thread(first_line, each)) for each in tails]
            async with asyncio.timeout(WAIT_SECONDS):
                while not all(each.done() for each in seen):
                    await alice.send("clientSendMessage", {"text": "hello \u202e"})
                    await alice.receive_until(ServerNewMessage)
                    await asyncio.sleep(0.2)
            message = json.loads(await seen[0])
            assert (message["pid"], message["room"]) == (server.process.pid, room)
            assert json.loads(message["text"])["payload"]["text"] == "hello \u202e"
            line = await seen[1]
            assert f"  {server.process.pid}  {room}  " in line
            assert '"text":"hello \\u202e"' in line
        finally:
            for each in tails:
                each.kill()
                each.communicate(timeout=WAIT_SECONDS)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


async def test_a_tail_ends_after_its_time(serve: Callable[..., Server]) -> None:
    serve()
    assert await command("inspect", "--tail", "x", "--seconds", "0.1") == (0, "")


async def test_commands_reach_one_process_without_redis(
    serve: Callable[..., Server], room: str
) -> None:
    server = serve()
    async with server.join("Alice", room) as alice, server.join("Bob", "other") as bob:
        done = await command("announce", "Tea!")
        assert done == (0, "announced to 2 rooms\n")
        for client in (alice, bob):
            await client.expect("serverSystemAnnouncement", text="Tea!")
        assert await command("disconnect", "Bob") == (0, "done\n")
        assert (await bob.wait_closed())[0] == 1000
        assert await command("mute", "Alice", "--room", room) == (0, "done\n")
        assert await command("ban", "Alice", "--seconds", "60") == (0, "done\n")
        assert (await alice.wait_closed())[0] == 4403
    status, output = await command("restrictions")
    assert status == 0
    assert [line.split()[:3] for line in output.splitlines()] == [
        ["ban", "Alice", "all"],
        ["mute", "Alice", room],
    ]
    assert await command("unban", "Alice") == (0, "done\n")
    assert await command("unmute", "Alice", "--room", room) == (0, "done\n")
    assert await command("restrictions") == (0, "")
    status, error = await command("unban", "Alice")
    assert status == 1
    assert error.startswith("unban: 'Alice' has no ban")
    status, error = await command("ban", "Alice", "--seconds", "-1")
    assert (status, error[:5]) == (1, "ban: ")


async def test_an_announcement_that_one_of_two_processes_has_sent_is_counted(
    serve: Callable[..., Server], tmp_path: Path, room: str
) -> None:
    server = serve()

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    ending = await asyncio.start_unix_server(end, tmp_path / FOLDER / "admin-1-0123abcd.sock")
    async with ending, server.join("Alice", room) as alice:
        assert await command("announce", "Tea!") == (
            1,
            "announced to 1 rooms, not to all: process 1 has ended without an answer: look at its log",
        )
        await alice.expect("serverSystemAnnouncement", text="Tea!")


@pytest.mark.redis
async def test_each_of_several_processes_answers(
    serve: Callable[..., Server], tmp_path: Path, room: str
) -> None:
    with running_valkey() as valkey:
        settings = {"APP_BACKEND_URL": valkey.url, "APP_WORKERS": "2"}
        server = serve(**settings)
        async with asyncio.timeout(WAIT_SECONDS):
            while len(sockets_of(tmp_path)) < 2:  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.05)
        async with server.join("Alice", room), server.join("Bob", room):
            processes = await inspect()
            assert len({each["pid"] for each in processes}) == 2
            assert sum(each["connection_count"] for each in processes) == 2
            assert all(each["redis"]["outage"] == "" for each in processes)
            status, output = await command("inspect")
            assert status == 0, output
            assert output.count("\nRedis: available; unavailable for 0.0 s since the start\n") == 2
        server.stop()
    assert sockets_of(tmp_path) == []


async def test_the_socket_of_a_killed_process_is_removed(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve()
    server.process.send_signal(signal.SIGKILL)
    await server.wait_ended()
    assert len(sockets_of(tmp_path)) == 1
    status, error = await command("inspect")
    assert status == 1
    assert error.startswith("inspect: no process of the service has a socket in 'var' ")
    assert sockets_of(tmp_path) == []
    stale = tmp_path / FOLDER / "admin-1-0123abcd.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    following = serve()
    (path,) = sockets_of(tmp_path)
    assert path.name.startswith(f"admin-{following.process.pid}-")


async def test_a_bad_request_gets_an_error_line(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve()
    (path,) = sockets_of(tmp_path)
    for line, reason in (
        (b"hello\n", "malformed"),
        (b'{"command":"sing"}\n', "Invalid value 'sing'"),
        (b'{"command":"tail","room":"x","seconds":61}\n', "<= 60"),
        (b'{"command":"inspect","limit":1}\n', "unknown field"),
        (b'{"command":"ban"}\n', "Invalid value 'ban'"),
        (b'{"command":"disconnect","user":""}\n' * 2, ""),
        (b"[" * 100_000 + b"\n", "at most 65536 bytes"),
        (b"[" * 60_000 + b"\n", ""),
    ):
        (answer,) = await request(path, line)
        assert reason in answer.get("error", ""), line[:100]
    waiting = [await asyncio.open_unix_connection(path) for _ in range(8)]
    (answer,) = await request(path, b'{"command":"inspect"}\n')
    assert answer == {"error": "8 commands are running: try again later"}
    for _, writer in waiting:
        await close(writer)
    async with asyncio.timeout(WAIT_SECONDS):
        while "snapshot" not in (await request(path, b'{"command":"inspect"}\n'))[0]:
            pass
    server.stop()
    assert "Traceback" not in server.output()


async def test_an_operator_who_does_not_read_slows_nothing(
    serve: Callable[..., Server], tmp_path: Path, room: str
) -> None:
    server = serve()
    (path,) = sockets_of(tmp_path)
    async with server.join("Alice", room) as alice:
        with socket.socket(socket.AF_UNIX) as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.connect(str(path))
            stalled.sendall(b'{"command":"tail","room":"%b","seconds":60}\n' % room.encode())
            for _ in range(300):
                done = await request(path, b'{"command":"announce","text":"%b"}\n' % (b"x" * 3000))
                assert done == [{"rooms": 1}]
                await alice.expect("serverSystemAnnouncement", text="x" * 3000)
            server.stop()
    assert "Traceback" not in server.output()


async def test_a_service_that_cannot_have_a_socket_serves_and_says_so(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 30)
    server = serve(APP_STATE_FOLDER=str(folder))
    assert "no admin socket in APP_STATE_FOLDER, so the command inspect does not" in server.output()
    monkeypatch.setenv("APP_STATE_FOLDER", str(folder))
    status, error = await command("inspect")
    assert (status, error[:30]) == (1, "inspect: no process of the ser")

"""Sockets of the library websockets: order, the end, attempts that are cancelled."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from falcon_pachinko.client.platform import Socket
from falcon_pachinko.client.sockets import (
    CANCEL_SECONDS,
    CLOSE_SECONDS,
    END_SECONDS,
    AsyncioPlatform,
    Signal,
)

WAIT_SECONDS = 10.0


class Events:
    """Records the events of a socket."""

    def __init__(self) -> None:
        self.opened, self.ended = asyncio.Event(), asyncio.Event()
        self.messages: list[object] = []
        self.ends: list[tuple[int, str]] = []
        self.error: Exception | None = None

    def on_open(self, socket: Socket) -> None:
        self.opened.set()

    def on_message(self, socket: Socket, data: object) -> None:
        if self.error is not None:
            raise self.error
        self.messages.append(data)

    def on_end(self, socket: Socket, code: int, reason: str, *, is_dropped: bool = False) -> None:
        self.ends.append((code, reason))
        self.ended.set()


async def talk(handle: Any, act: Any, max_message_bytes: int = 1_000) -> Events:
    """Connect to a server, act after the handshake, and return the events up to the end."""
    events = Events()
    async with serve(handle, "127.0.0.1", 0) as server:
        platform = AsyncioPlatform(max_message_bytes)
        port = next(iter(server.sockets)).getsockname()[1]
        socket = platform.connect(f"ws://127.0.0.1:{port}/", {}, events)
        async with asyncio.timeout(WAIT_SECONDS):
            await events.opened.wait()
            act(socket)
            await events.ended.wait()
            await platform.aclose()
        assert platform.tasks == set()
    return events


async def test_what_was_sent_is_written_before_the_close() -> None:
    received: list[str | bytes] = []

    async def handle(connection: ServerConnection) -> None:
        async for data in connection:
            received.append(data)

    def act(socket: Any) -> None:
        for number in range(100):
            socket.send(str(number))
        assert socket.buffered_bytes == 190
        socket.close(4000, "x" * 200)
        socket.close(4001)
        assert not socket.is_open

    events = await talk(handle, act)
    assert received == [str(number) for number in range(100)]
    assert events.ends == [(4000, "x" * 123)]


async def test_the_end_has_the_code_of_the_server_and_a_lost_connection_1006() -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.send("hello")
        await connection.close(4401, "your session has ended")

    async def abort(connection: ServerConnection) -> None:
        connection.transport.abort()

    events = await talk(close, lambda socket: None)
    assert (events.messages, events.ends) == (["hello"], [(4401, "your session has ended")])
    assert (await talk(abort, lambda socket: None)).ends == [(1006, "")]


async def test_a_message_above_the_bound_closes_with_1009() -> None:
    async def handle(connection: ServerConnection) -> None:
        await connection.send("x" * 2_000)
        await connection.wait_closed()

    events = await talk(handle, lambda socket: None)
    assert (events.messages, events.ends[0][0]) == ([], 1009)


async def test_a_failed_attempt_ends_with_1006_and_a_cancelled_one_without_an_event() -> None:
    platform, events = AsyncioPlatform(1_000), Events()
    socket = platform.connect("ws://127.0.0.1:1/", {}, events)
    assert not socket.is_open
    async with asyncio.timeout(WAIT_SECONDS):
        await events.ended.wait()
    assert events.ends[0][0] == 1006
    cancelled = platform.connect("ws://127.0.0.1:1/", {}, events)
    cancelled.close()
    await platform.aclose()
    assert len(events.ends) == 1


async def test_a_signal_wakes_all_that_wait_and_forgets_those_that_gave_up() -> None:
    signal = Signal()
    waiting = [asyncio.create_task(signal.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    signal.notify()
    signal.notify()
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*waiting[1:])
    assert signal.waiters == set()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition has not become true")


async def block(connection: ServerConnection) -> None:
    """Read nothing, so that the buffers of the client fill."""
    connection.transport.pause_reading()
    await connection.wait_closed()


async def open_blocked(platform: AsyncioPlatform, port: int) -> tuple[Any, Events]:
    """Return a connection whose writer waits for a server that reads nothing."""
    events = Events()
    socket = platform.connect(f"ws://127.0.0.1:{port}/", {}, events)
    await events.opened.wait()
    for number in range(300):
        socket.send(f"{number}:" + "x" * 100_000, partial(events.messages.append, number))
    counts = [-1]

    def is_blocked() -> bool:
        counts.append(len(socket.pending))
        return 0 < counts[-1] == counts[max(0, len(counts) - 10)]

    await until(is_blocked)
    return socket, events


async def test_a_server_that_reads_nothing_delays_the_end_by_a_bound() -> None:
    loop, platform = asyncio.get_running_loop(), AsyncioPlatform(1_000)
    async with (
        serve(block, "127.0.0.1", 0, compression=None, close_timeout=0.1) as server,
        asyncio.timeout(2 * WAIT_SECONDS),
    ):
        port = next(iter(server.sockets)).getsockname()[1]
        socket, events = await open_blocked(platform, port)
        started = loop.time()
        socket.close()
        await events.ended.wait()
        assert loop.time() - started < CLOSE_SECONDS + 1
        assert (events.ends[0][0], platform.sockets) == (1006, set())
        # One that was not closed, and one whose end is cancelled.
        await open_blocked(platform, port)
        started = loop.time()
        await platform.aclose()
        assert loop.time() - started < END_SECONDS + CANCEL_SECONDS
        assert platform.tasks == set()
        await open_blocked(platform, port)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await platform.aclose()
        await until(lambda: not platform.tasks)


async def test_a_message_that_cannot_be_handled_ends_a_blocked_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    is_blocked = asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await is_blocked.wait()
        await connection.send("a message")
        await connection.wait_closed()

    platform = AsyncioPlatform(1_000)
    settings: Any = {"compression": None, "close_timeout": 0.1}
    async with serve(handle, "127.0.0.1", 0, **settings) as server, asyncio.timeout(WAIT_SECONDS):
        port = next(iter(server.sockets)).getsockname()[1]
        _, events = await open_blocked(platform, port)
        events.error = RuntimeError("it cannot be handled")
        with caplog.at_level(logging.CRITICAL):
            is_blocked.set()
            await events.ended.wait()
        await platform.aclose()
    assert (events.ends, platform.tasks) == ([(1006, "")], set())


async def test_a_task_that_refuses_to_end_does_not_block_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("falcon_pachinko.client.sockets.END_SECONDS", 0.05)
    monkeypatch.setattr("falcon_pachinko.client.sockets.CANCEL_SECONDS", 0.05)
    platform, release = AsyncioPlatform(1_000), asyncio.Event()

    async def refuse() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = platform.spawn(refuse())
    async with asyncio.timeout(WAIT_SECONDS):
        await platform.aclose()
        assert not task.done()
        release.set()
        await task


async def test_messages_that_were_not_written_are_returned_in_order() -> None:
    platform = AsyncioPlatform(1_000)
    async with (
        serve(block, "127.0.0.1", 0, compression=None, close_timeout=0.1) as server,
        asyncio.timeout(WAIT_SECONDS),
    ):
        port = next(iter(server.sockets)).getsockname()[1]
        socket, events = await open_blocked(platform, port)
        count = len(socket.pending)
        socket.return_unsent()
        assert events.messages == list(range(299, 299 - count, -1))
        socket.return_unsent()
        assert (len(events.messages), len(socket.pending)) == (count, 0)
        # The message that is being written is counted until then.
        assert 100_000 <= socket.buffered_bytes < 200_100
        socket.abort()
        await platform.aclose()


async def test_a_connection_that_the_server_is_closing_is_not_open() -> None:
    closing = asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        # The close frame, and no end of TCP.
        connection.protocol.send_close(1012, "retry=5")
        connection.send_data()
        await closing.wait()

    events, platform = Events(), AsyncioPlatform(1_000)
    async with serve(handle, "127.0.0.1", 0) as server, asyncio.timeout(WAIT_SECONDS):
        port = next(iter(server.sockets)).getsockname()[1]
        socket = platform.connect(f"ws://127.0.0.1:{port}/", {}, events)
        await events.opened.wait()
        await until(lambda: not socket.is_open)
        is_early = not events.ends
        closing.set()
        await events.ended.wait()
        await platform.aclose()
    assert is_early
    assert events.ends == [(1012, "retry=5")]

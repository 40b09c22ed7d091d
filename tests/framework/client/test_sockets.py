"""Sockets of the library websockets: order, the end, attempts that are cancelled."""

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from falcon_pachinko.client.platform import Socket
from falcon_pachinko.client.sockets import AsyncioPlatform, Signal

WAIT_SECONDS = 10.0


class Events:
    """Records the events of a socket."""

    def __init__(self) -> None:
        self.opened, self.ended = asyncio.Event(), asyncio.Event()
        self.messages: list[object] = []
        self.ends: list[tuple[int, str]] = []

    def on_open(self, socket: Socket) -> None:
        self.opened.set()

    def on_message(self, socket: Socket, data: object) -> None:
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

"""Connections in memory: flow control, end of stream and lost peers as on a socket."""

import asyncio
import contextvars
from contextlib import suppress
from typing import Any

import pytest

from falcon_pachinko.testing import Running, run
from falcon_pachinko.testing.memory import MemoryTransport, connect_protocols

from .lobby import WAIT_SECONDS, Left, Open, Plain, Posted, in_process, served


@pytest.mark.parametrize("opener", [in_process, served])
async def test_sending_to_a_client_that_vanished_unnoticed_raises_an_error(opener: Open) -> None:
    vanished, noticed = asyncio.Event(), asyncio.Event()

    async def send_messages(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await vanished.wait()
        with suppress(OSError):
            while True:
                await send({"type": "websocket.send", "text": "hello?"})
                await asyncio.sleep(0.001)
        noticed.set()

    async with opener(Plain(send_messages)) as plain, plain.connect("/") as client:
        for _ in range(4):  # uvicorn stops reading, so it does not notice the disconnect
            await client.send_raw("hello")
        client.vanish()
        vanished.set()
        await asyncio.wait_for(noticed.wait(), WAIT_SECONDS)


async def test_a_client_that_does_not_read_makes_the_next_send_wait() -> None:
    started, sent = asyncio.Event(), 0

    async def count(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "websocket.accept"})
        for _ in range(2):
            await receive()
        started.set()
        for _ in range(3):
            await send({"type": "websocket.send", "text": str(sent)})
            sent += 1

    async with run(Plain(count)) as plain, plain.connect("/") as client:
        client.pause_reading()
        await client.send_raw("go")
        await asyncio.wait_for(started.wait(), WAIT_SECONDS)
        for _ in range(50):
            await asyncio.sleep(0)
        assert sent == 0
        client.resume_reading()
        assert [await client.receive_raw() for _ in range(3)] == ["0", "1", "2"]


async def test_the_outbox_bound_of_a_slow_client_is_exact(local: Running) -> None:
    async with local.connect("/lobby/alice") as alice, local.connect("/lobby/bob") as bob:
        bob.pause_reading()
        # One message is in transit to bob, five are in the outbox, and the next one exceeds it.
        for number in range(7):
            await alice.send("post", {"text": str(number)})
            await alice.receive(Posted)
        assert await alice.receive(Left) == Left(name="bob", code=4008)


class Recorder(asyncio.Protocol):
    """A protocol that records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received = b""
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, MemoryTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.calls.append("data")
        self.received += data

    def eof_received(self) -> None:
        self.calls.append("eof")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.error = exc


@pytest.fixture
async def ends() -> tuple[Recorder, Recorder]:
    """The protocols of a server and a client, connected in memory."""
    server, client = Recorder(), Recorder()
    connect_protocols(server, client, ("c", 1), ("s", 2), contextvars.copy_context())
    return server, client


async def run_loop() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_both_ends_know_their_addresses(ends: tuple[Recorder, Recorder]) -> None:
    server, client = ends
    for end, name, peer in ((server, ("s", 2), ("c", 1)), (client, ("c", 1), ("s", 2))):
        assert end.transport.get_extra_info("sockname") == name
        assert end.transport.get_extra_info("peername") == peer
        assert end.transport.get_protocol() is end


async def test_written_data_arrives_in_a_later_loop_iteration(
    ends: tuple[Recorder, Recorder],
) -> None:
    server, client = ends
    client.transport.write(b"ab")
    client.transport.write(b"c")
    assert server.received == b""
    await run_loop()
    assert (server.received, server.calls) == (b"abc", ["data", "data"])


async def test_writing_is_paused_while_the_client_does_not_read(
    ends: tuple[Recorder, Recorder],
) -> None:
    server, client = ends
    client.transport.pause_reading()
    server.transport.write(b"abc")
    await run_loop()
    assert (server.calls, client.received) == (["pause"], b"")
    assert server.transport.get_write_buffer_size() == 3
    client.transport.resume_reading()
    await run_loop()
    assert (server.calls, client.received) == (["pause", "resume"], b"abc")


async def test_a_close_ends_both_sides_after_pending_data(ends: tuple[Recorder, Recorder]) -> None:
    server, client = ends
    client.transport.write(b"abc")
    client.transport.close()
    client.transport.write(b"ignored")
    await run_loop()
    assert (server.calls, server.received) == (["data", "eof", "lost"], b"abc")
    assert (client.calls, client.error, server.error) == (["lost"], None, None)


async def test_a_lost_client_resets_a_paused_server(ends: tuple[Recorder, Recorder]) -> None:
    server, client = ends
    client.transport.pause_reading()
    client.transport.abort()
    await run_loop()
    assert server.calls == ["pause", "lost"]
    assert isinstance(server.error, ConnectionResetError)

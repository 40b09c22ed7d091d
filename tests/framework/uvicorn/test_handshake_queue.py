"""Simultaneous handshakes start one after the other, so that they do not block the loop."""

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import falcon.asgi
from uvicorn.server import ServerState

from falcon_pachinko import WebSocketLike, WebSocketResource, install
from falcon_pachinko.testing import serve
from falcon_pachinko.uvicorn import PushProtocol
from falcon_pachinko.uvicorn.handshake_queue import ITERATIONS_PER_HANDSHAKE, PendingHandshake

from ..support.stranger import arriving

WAIT_SECONDS = 15
AT_ONCE = 30
HANDSHAKE = (
    "GET /{name} HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Turns:
    """Counts the iterations of the event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.number = 0
        self.stopped = False
        self.count()

    def count(self) -> None:
        if not self.stopped:
            self.number += 1
            self.loop.call_soon(self.count)


class Door(WebSocketResource):
    """Records the iteration in which each client's ``on_connect`` starts."""

    def __init__(self, turns: Turns, begun: dict[str, int]) -> None:
        self.turns = turns
        self.begun = begun

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.begun[name] = self.turns.number
        return True


async def test_simultaneous_handshakes_start_in_every_third_iteration() -> None:
    turns = Turns()
    begun: dict[str, int] = {}
    app = install(falcon.asgi.App())
    app.add_websocket_route("/{name}", Door, turns, begun)
    async with (
        asyncio.timeout(WAIT_SECONDS),
        serve(app, ws=PushProtocol) as served,
        AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(arriving(served, b"")) for _ in range(AT_ONCE)]
        for number, client in enumerate(clients):
            client.writer.write(HANDSHAKE.format(name=f"client{number}").encode())
        for client in clients:
            assert await client.reader.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
        turns.stopped = True
    assert len(begun) == AT_ONCE
    turns_of_each = sorted(begun.values())
    assert all(
        later - earlier >= ITERATIONS_PER_HANDSHAKE for earlier, later in pairwise(turns_of_each)
    )


class FakeTransport(asyncio.Transport):
    """A transport without a peer."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True
        self.closing = False
        self.protocol: asyncio.BaseProtocol = asyncio.Protocol()  # of HTTP

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close


class Guest(asyncio.Protocol):
    """The protocol that replaces a pending handshake; an invalid handshake makes it fail."""

    begun: list[bytes]

    def data_received(self, data: bytes) -> None:
        if data == b"bad":
            raise ValueError("this is no handshake")
        self.begun.append(data)


class Site:
    """A server with pending handshakes."""

    def __init__(self) -> None:
        begun: list[bytes] = []

        class GuestHere(Guest):
            def __init__(self, **given: Any) -> None:
                self.begun = begun

        class PendingHandshakeHere(PendingHandshake):
            protocol_class = GuestHere

        self.protocol_class = PendingHandshakeHere
        self.begun = begun
        self.state = ServerState()

    def come(self, handshake: bytes) -> tuple[PendingHandshake, FakeTransport]:
        transport = FakeTransport()
        newcomer = self.protocol_class(config=None, server_state=self.state, app_state={})
        newcomer.connection_made(transport)
        newcomer.data_received(handshake)
        transport.set_protocol(newcomer)
        return newcomer, transport


async def pass_turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_handshakes_start_in_order_of_arrival() -> None:
    site = Site()
    transports = [site.come(b"%d" % number)[1] for number in range(4)]
    assert not site.begun
    assert not any(transport.reading for transport in transports)
    assert len(site.state.connections) == 4
    await pass_turns(1)
    for number in range(4):
        assert site.begun == [b"%d" % earlier for earlier in range(number + 1)]
        assert transports[number].reading
        assert isinstance(transports[number].protocol, Guest)
        await pass_turns(ITERATIONS_PER_HANDSHAKE)
    assert not site.state.connections
    site.come(b"later")
    await pass_turns(1)
    assert site.begun[4:] == [b"later"]


async def test_disconnected_handshake_does_not_delay_others() -> None:
    site = Site()
    come = [site.come(b"%d" % number) for number in range(4)]
    for newcomer, transport in come[1:3]:
        transport.close()
        newcomer.connection_lost(None)
    await pass_turns(1 + ITERATIONS_PER_HANDSHAKE)
    assert site.begun == [b"0", b"3"]
    newcomer, transport = site.come(b"alone")
    transport.close()
    newcomer.connection_lost(None)
    await pass_turns(1)
    site.come(b"last")
    await pass_turns(1)
    assert site.begun[2:] == [b"last"]
    assert not site.state.connections


async def test_shutdown_closes_pending_handshakes() -> None:
    site = Site()
    newcomer, transport = site.come(b"late")
    for connection in list(site.state.connections):
        connection.shutdown()
    assert transport.closing
    newcomer.connection_lost(None)
    await pass_turns(1)
    assert not site.begun
    assert not site.state.connections


async def test_invalid_handshake_ends_only_its_own_connection() -> None:
    site = Site()
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    _, bad = site.come(b"bad")
    _, good = site.come(b"good")
    await pass_turns(1 + ITERATIONS_PER_HANDSHAKE)
    assert bad.closing
    assert [str(complaint["exception"]) for complaint in complaints] == ["this is no handshake"]
    assert not good.closing
    assert site.begun == [b"good"]

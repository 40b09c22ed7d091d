"""Clients that are gone, or as good as gone, and may not stay in their rooms."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import App, Limits, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.testing import Served, connect, serve
from falcon_pachinko.uvicorn import PushProtocol

WAIT_SECONDS = 5.0
SOON_SECONDS = 0.2
WAYS_OUT = {"push": PushProtocol, "portable": "websockets-sansio"}


class Room(WebSocketResource):
    """A room that tells who comes and goes, and fills the pipe of a client that does not read."""

    limits = Limits(close_seconds=SOON_SECONDS, on_disconnect_seconds=SOON_SECONDS)

    def __init__(self, world: "World") -> None:
        self.world = world

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.name = self.connection.user = name
        await self.join_room("room")
        await self.broadcast_to_room("room", f"{name} came", exclude_self=True)
        self.world.before_accept(name)
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("room", payload["text"], exclude_self=True)

    @handles_message("wait")
    async def wait(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.world.waiting.set()
        await self.world.go_on.wait()
        await ws.send_text("nearly done")  # finds out that the client is gone
        await ws.send_text("done")

    @handles_message("fill")
    async def fill(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        # What the kernel does not take waits in the transport, and is less than its high-water mark.
        while not self.world.something_waits():
            await ws.send_text("x" * 5000)
            await asyncio.sleep(0)
        self.world.filled.set()

    @handles_message("stream")
    async def stream(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        while True:
            await ws.send_text("x" * 5 if self.world.something_waits() else "x" * 5000)
            await asyncio.sleep(0.001)

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        self.world.goodbyes.append(self.name)
        self.world.codes.append(close_code)
        await self.world.goodbye()
        await self.broadcast_to_room("room", f"{self.name} left")


async def nothing() -> None: ...


class World:
    """An application with one room, and what its tests do at certain moments."""

    def __init__(self) -> None:
        self.goodbyes: list[str] = []
        self.codes: list[int] = []
        self.filled, self.waiting, self.go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.before_accept: Callable[[str], None] = lambda name: None
        self.goodbye = nothing
        self.served: Served
        self.app: App = install(falcon.asgi.App())
        self.app.add_websocket_route("/{name}", Room, self)
        self.manager = self.app.ws_connection_manager

    def protocols(self) -> list[Any]:
        """The connections of the server."""
        return list(self.served.server.server_state.connections)

    def something_waits(self) -> bool:
        return any(p.transport.get_write_buffer_size() for p in self.protocols())

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110 (what is waited for sets no event)
                await asyncio.sleep(0.001)

    async def fill_pipe_of(self, client: "SilentClient") -> None:
        """Send to the only client until something waits for it."""
        await self.wait_until(lambda: len(self.manager) == 1)
        client.send('{"type":"fill"}')
        await asyncio.wait_for(self.filled.wait(), WAIT_SECONDS)

    def is_empty(self) -> bool:
        """Whether nobody is in a room, seen or unseen."""
        return not self.manager._registry.synced.rooms_by_member


class SilentClient:
    """A client that reads nothing, whose kernel buffers little, and that goes when it is told to."""

    def __init__(self, port: int, name: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(
            f"GET /{name} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

    def send(self, text: str) -> None:
        self.socket.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode())

    def vanish(self) -> None:
        """Break the connection at once: SO_LINGER without time is RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@pytest.fixture(params=WAYS_OUT)
def way(request: pytest.FixtureRequest) -> Any:
    return WAYS_OUT[request.param]


async def test_a_client_that_vanishes_right_before_the_accept_was_never_there(way: Any) -> None:
    world, left = World(), asyncio.Event()

    def vanish(name: str) -> None:
        if name == "bob":
            # Nothing waits from here to the accept: the event loop cannot tell anybody before it.
            bob.vanish()
            left.set()

    world.before_accept = vanish
    async with (
        serve(world.app, ws=way) as world.served,
        connect(world.served.ws_url("/alice")) as alice,
    ):
        await world.wait_until(lambda: len(world.manager) == 1)
        bob = SilentClient(world.served.port, "bob")
        await asyncio.wait_for(left.wait(), WAIT_SECONDS)
        await world.wait_until(lambda: len(world.manager._registry.synced.rooms_by_member) == 1)
        await world.manager.broadcast_to_room("room", "marker")
        assert await alice.receive() == "marker"
    assert world.goodbyes == ["alice"]


async def test_a_client_that_answers_no_ping_leaves_though_something_waits_for_it(way: Any) -> None:
    world = World()
    options: dict[str, Any] = {"ws_ping_interval": SOON_SECONDS, "ws_ping_timeout": SOON_SECONDS}
    async with serve(world.app, ws=way, ws_per_message_deflate=False, **options) as world.served:
        bob = SilentClient(world.served.port, "bob")
        try:
            await world.fill_pipe_of(bob)
            async with asyncio.timeout(WAIT_SECONDS):
                while not world.is_empty():
                    # On the portable way uvicorn says only to who sends that it has given up.
                    await world.manager.broadcast_to_room("room", "tick")
                    await asyncio.sleep(0.01)
            assert world.goodbyes == ["bob"]
        finally:
            bob.vanish()


async def test_a_handler_that_hears_of_it_first_leaves_no_ghost(way: Any) -> None:
    world = World()
    options: dict[str, Any] = {"ws_ping_interval": SOON_SECONDS, "ws_ping_timeout": SOON_SECONDS}
    async with serve(world.app, ws=way, ws_per_message_deflate=False, **options) as world.served:
        bob = SilentClient(world.served.port, "bob")
        try:
            await world.wait_until(lambda: len(world.manager) == 1)
            bob.send('{"type":"stream"}')
            await world.wait_until(lambda: world.goodbyes == ["bob"] and world.is_empty())
        finally:
            bob.vanish()


async def test_a_kicked_client_is_let_go_though_something_waits_for_it() -> None:
    world = World()
    # Without the way past uvicorn's own class there is nothing to let go of.
    async with serve(world.app, ws=PushProtocol, ws_per_message_deflate=False) as world.served:
        bob = SilentClient(world.served.port, "bob")
        try:
            await world.fill_pipe_of(bob)
            (connection,) = world.manager
            await connection.close(4001)
            await world.wait_until(lambda: world.goodbyes == ["bob"] and world.is_empty())
            await world.wait_until(lambda: not world.protocols())
        finally:
            bob.vanish()


async def test_a_stalled_client_does_not_use_up_the_grace_period() -> None:
    world = World()
    options: dict[str, Any] = {"timeout_graceful_shutdown": 15}
    async with serve(
        world.app, ws=PushProtocol, ws_per_message_deflate=False, **options
    ) as world.served:
        bob = SilentClient(world.served.port, "bob")
        try:
            await world.fill_pipe_of(bob)
            world.served.server.should_exit = True
            await world.wait_until(lambda: world.goodbyes == ["bob"] and world.is_empty())
            await world.wait_until(lambda: not world.protocols())
        finally:
            bob.vanish()


async def test_a_goodbye_that_does_not_let_itself_be_cancelled_keeps_nobody_in_a_room(
    way: Any,
) -> None:
    world, release = World(), asyncio.Event()

    async def hang() -> None:
        try:
            await release.wait()
        finally:
            await release.wait()

    world.goodbye = hang
    async with serve(world.app, ws=way) as world.served:
        try:
            async with connect(world.served.ws_url("/alice")):
                await world.wait_until(lambda: len(world.manager) == 1)
            await world.wait_until(lambda: world.goodbyes == ["alice"] and world.is_empty())
        finally:
            release.set()


async def test_a_goodbye_gets_the_code_of_the_server_though_a_send_failed_before_it(
    way: Any,
) -> None:
    world = World()
    async with (
        serve(world.app, ws=way) as world.served,
        connect(world.served.ws_url("/alice")) as alice,
    ):
        await alice.send("wait")
        await asyncio.wait_for(world.waiting.wait(), WAIT_SECONDS)
        world.served.server.should_exit = True
        assert await alice.wait_closed() == (1012, "")
        world.go_on.set()
        await world.wait_until(lambda: len(world.codes) == 1)
    assert world.codes == [1012]


async def test_a_stop_while_a_stalled_client_is_closing_reaches_the_others_too() -> None:
    world = World()
    async with serve(world.app, ws=PushProtocol, ws_per_message_deflate=False) as world.served:
        bob = SilentClient(world.served.port, "bob")
        try:
            await world.fill_pipe_of(bob)
            async with connect(world.served.ws_url("/alice")) as alice:
                await world.wait_until(lambda: len(world.manager) == 2)
                # A close frame, whose answer has to wait behind what bob does not read.
                bob.socket.sendall(bytes([0x88, 0x80]) + bytes(4))
                await world.wait_until(
                    lambda: any(p.transport.is_closing() for p in world.protocols())
                )
                world.served.server.should_exit = True
                assert await alice.wait_closed() == (1012, "")
                await world.wait_until(world.is_empty)
        finally:
            bob.vanish()

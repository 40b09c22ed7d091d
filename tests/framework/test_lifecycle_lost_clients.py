"""Lost and stalled clients leave their rooms."""

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

from .support.servers import ParsingProtocol

WAIT_SECONDS = 5.0
SOON_SECONDS = 0.2
WAYS_OUT = {
    "push": PushProtocol,
    "push by parser": ParsingProtocol,
    "portable": "websockets-sansio",
}


class Room(WebSocketResource):
    """A room that announces its members, and can fill a client's transport buffer."""

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
        await ws.send_text("nearly done")  # fails: the client has disconnected
        await ws.send_text("done")

    @handles_message("fill")
    async def fill(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        # The rest stays in the transport's buffer, below its high-water mark.
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
        self.world.disconnects.append(self.name)
        self.world.codes.append(close_code)
        await self.world.disconnect()
        await self.broadcast_to_room("room", f"{self.name} left")


async def nothing() -> None: ...


class World:
    """An application with one room, and hooks for its tests."""

    def __init__(self) -> None:
        self.disconnects: list[str] = []
        self.codes: list[int] = []
        self.filled, self.waiting, self.go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.before_accept: Callable[[str], None] = lambda name: None
        self.disconnect = nothing
        self.served: Served
        self.app: App = install(falcon.asgi.App())
        self.app.add_websocket_route("/{name}", Room, self)
        self.manager = self.app.ws_connection_manager

    def protocols(self) -> list[Any]:
        """Return the server's connections."""
        return list(self.served.server.server_state.connections)

    def something_waits(self) -> bool:
        return any(p.transport.get_write_buffer_size() for p in self.protocols())

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110 (the condition sets no event)
                await asyncio.sleep(0.001)

    async def fill_pipe_of(self, client: "SilentClient") -> None:
        """Send to the only client until its transport has pending output."""
        await self.wait_until(lambda: len(self.manager) == 1)
        client.send('{"type":"fill"}')
        await asyncio.wait_for(self.filled.wait(), WAIT_SECONDS)

    def is_empty(self) -> bool:
        """Return whether no room has members, including invisible ones."""
        return not self.manager._registry.synced.rooms_by_member


class SilentClient:
    """A client that does not read and has a small receive buffer."""

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
        """Reset the connection: SO_LINGER without time sends RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@pytest.fixture(params=WAYS_OUT)
def way(request: pytest.FixtureRequest) -> Any:
    return WAYS_OUT[request.param]


async def test_client_lost_right_before_the_accept_has_no_visible_effect(way: Any) -> None:
    world, left = World(), asyncio.Event()

    def vanish(name: str) -> None:
        if name == "bob":
            # There is no await from here to the accept: the event loop cannot report it before.
            bob.vanish()
            left.set()

    world.before_accept = vanish
    async with (
        serve(world.app, ws=way, ws_per_message_deflate=False) as world.served,
        connect(world.served.ws_url("/alice")) as alice,
    ):
        await world.wait_until(lambda: len(world.manager) == 1)
        bob = SilentClient(world.served.port, "bob")
        await asyncio.wait_for(left.wait(), WAIT_SECONDS)
        await world.wait_until(lambda: len(world.manager._registry.synced.rooms_by_member) == 1)
        await world.manager.broadcast_to_room("room", "marker")
        assert await alice.receive() == "marker"
    assert world.disconnects == ["alice"]


async def test_client_without_pongs_leaves_despite_pending_output(way: Any) -> None:
    world = World()
    # NOTE: the first ping follows the output that stays pending, also on a busy machine.
    options: dict[str, Any] = {"ws_ping_interval": 1.0, "ws_ping_timeout": SOON_SECONDS}
    async with serve(world.app, ws=way, **options) as world.served:
        bob = SilentClient(world.served.port, "bob")
        try:
            await world.fill_pipe_of(bob)
            async with asyncio.timeout(WAIT_SECONDS):
                while not world.is_empty():
                    # Without our protocol uvicorn reports the ping timeout only to a sender.
                    await world.manager.broadcast_to_room("room", "tick")
                    await asyncio.sleep(0.01)
            assert world.disconnects == ["bob"]
        finally:
            bob.vanish()


async def test_connection_lost_during_a_send_leaves_its_rooms(way: Any) -> None:
    world = World()
    options: dict[str, Any] = {"ws_ping_interval": SOON_SECONDS, "ws_ping_timeout": SOON_SECONDS}
    async with serve(world.app, ws=way, ws_per_message_deflate=False, **options) as world.served:
        bob = SilentClient(world.served.port, "bob")
        try:
            await world.wait_until(lambda: len(world.manager) == 1)
            bob.send('{"type":"stream"}')
            await world.wait_until(lambda: world.disconnects == ["bob"] and world.is_empty())
        finally:
            bob.vanish()


async def test_closed_connection_is_dropped_despite_pending_output() -> None:
    world = World()
    # Only our protocol can drop a connection with pending output.
    async with serve(world.app, ws=PushProtocol, ws_per_message_deflate=False) as world.served:
        bob = SilentClient(world.served.port, "bob")
        try:
            await world.fill_pipe_of(bob)
            (connection,) = world.manager
            await connection.close(4001)
            await world.wait_until(lambda: world.disconnects == ["bob"] and world.is_empty())
            await world.wait_until(lambda: not world.protocols())
        finally:
            bob.vanish()


async def test_shutdown_does_not_wait_for_a_stalled_client() -> None:
    world = World()
    options: dict[str, Any] = {"timeout_graceful_shutdown": 15}
    async with serve(
        world.app, ws=PushProtocol, ws_per_message_deflate=False, **options
    ) as world.served:
        bob = SilentClient(world.served.port, "bob")
        try:
            await world.fill_pipe_of(bob)
            world.served.server.should_exit = True
            await world.wait_until(lambda: world.disconnects == ["bob"] and world.is_empty())
            await world.wait_until(lambda: not world.protocols())
        finally:
            bob.vanish()


async def test_uncancellable_on_disconnect_does_not_keep_room_members(
    way: Any,
) -> None:
    world, release = World(), asyncio.Event()

    async def hang() -> None:
        try:
            await release.wait()
        finally:
            await release.wait()

    world.disconnect = hang
    async with serve(world.app, ws=way, ws_per_message_deflate=False) as world.served:
        try:
            async with connect(world.served.ws_url("/alice")):
                await world.wait_until(lambda: len(world.manager) == 1)
            await world.wait_until(lambda: world.disconnects == ["alice"] and world.is_empty())
        finally:
            release.set()


async def test_failed_send_does_not_change_the_code_of_on_disconnect(
    way: Any,
) -> None:
    world = World()
    async with (
        serve(world.app, ws=way, ws_per_message_deflate=False) as world.served,
        connect(world.served.ws_url("/alice")) as alice,
    ):
        await alice.send("wait")
        await asyncio.wait_for(world.waiting.wait(), WAIT_SECONDS)
        world.served.server.should_exit = True
        assert await alice.wait_closed() == (1012, "")
        world.go_on.set()
        await world.wait_until(lambda: len(world.codes) == 1)
    assert world.codes == [1012]


async def test_shutdown_during_a_stalled_close_reaches_other_clients() -> None:
    world = World()
    async with serve(world.app, ws=PushProtocol, ws_per_message_deflate=False) as world.served:
        bob = SilentClient(world.served.port, "bob")
        try:
            await world.fill_pipe_of(bob)
            async with connect(world.served.ws_url("/alice")) as alice:
                await world.wait_until(lambda: len(world.manager) == 2)
                # The response to this close frame waits behind the output that bob does not read.
                bob.socket.sendall(bytes([0x88, 0x80]) + bytes(4))
                await world.wait_until(
                    lambda: any(p.transport.is_closing() for p in world.protocols())
                )
                world.served.server.should_exit = True
                assert await alice.wait_closed() == (1012, "")
                await world.wait_until(world.is_empty)
        finally:
            bob.vanish()

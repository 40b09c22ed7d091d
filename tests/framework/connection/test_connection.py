"""A connection between the ASGI server, Falcon and middleware."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import falcon
import falcon.asgi
import pytest
from falcon import WebSocketDisconnected

from falcon_pachinko import (
    App,
    Connection,
    Limits,
    RouteConfig,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.connection.state import OPEN
from falcon_pachinko.publication import Publication
from falcon_pachinko.testing import connect

from ..support.servers import SERVERS

WAIT_SECONDS = 5.0
TIMEOUT_SECONDS = 0.05
SCOPE = {
    "type": "websocket",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "path": "/room",
    "headers": [(b"host", b"127.0.0.1")],
    "query_string": b"",
    "scheme": "ws",
    "subprotocols": [],
}

HANDSHAKE = (
    b"GET /room HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

Event = Mapping[str, Any]
Send = Callable[[Event], Awaitable[None]]
Wrap = Callable[[Send], Send]


class Room(WebSocketResource):
    """A resource that broadcasts each message to its only room."""

    def __init__(self, connections: list[Connection], disconnects: list[int]) -> None:
        self.connections = connections
        self.disconnects = disconnects

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        self.connections.append(self.connection)
        await self.join_room("room")
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("room", {"type": "said"})

    @handles_message("crash")
    async def crash(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise ZeroDivisionError

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        self.disconnects.append(close_code)


class Server:
    """An ASGI server with one client, which accepts events only while ``gate`` is open."""

    def __init__(self, app: falcon.asgi.App[Any, Any], wrap: Wrap = lambda send: send) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.events.put_nowait({"type": "websocket.connect"})
        self.gate = asyncio.Event()
        self.gate.set()
        self.sending = asyncio.Event()
        self.sent: list[str] = []
        if isinstance(app, App):
            app.ws_lifespan.checked = True  # as after the start by a server
        self.task = asyncio.ensure_future(app(SCOPE, self.events.get, wrap(self.send)))

    async def send(self, event: Event) -> None:
        self.sending.set()
        await self.gate.wait()
        self.sent.append(event.get("text") or event["type"])

    async def wait_sent(self, count: int) -> list[str]:
        """Wait until the server has accepted this many events."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.sent) < count:  # noqa: ASYNC110 (the condition sets no event)
                await asyncio.sleep(0)
        return self.sent

    def say(self) -> None:
        """Let the client send a message."""
        self.events.put_nowait({"type": "websocket.receive", "text": '{"type":"say"}'})

    async def end(self) -> None:
        """Let the client disconnect, and wait for the application to return."""
        self.events.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait_for(self.task, WAIT_SECONDS)


@pytest.fixture
def connections() -> list[Connection]:
    return []


@pytest.fixture
def disconnects() -> list[int]:
    return []


@pytest.fixture
def app(connections: list[Connection], disconnects: list[int]) -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room", Room, connections, disconnects)
    return app


async def test_close_is_sent_after_the_accept(
    app: App, connections: list[Connection], disconnects: list[int]
) -> None:
    server = Server(app)
    server.gate.clear()
    await asyncio.wait_for(server.sending.wait(), WAIT_SECONDS)
    closing = asyncio.create_task(connections[0].close(4001))
    await asyncio.sleep(0)
    assert server.sent == []
    server.gate.set()
    await asyncio.wait_for(closing, WAIT_SECONDS)
    await asyncio.wait_for(server.task, WAIT_SECONDS)
    assert server.sent == ["websocket.accept", "websocket.close"]
    assert disconnects == []  # the connection never became visible
    assert app.ws_connection_manager._registry.synced.members_by_room == {}


async def test_falcon_error_handlers_get_an_accepted_websocket() -> None:
    async def explain(
        req: falcon.asgi.Request, resp: Any, error: Exception, params: Any, ws: Any = None
    ) -> None:
        assert ws.ready
        await ws.send_text("sorry")
        await ws.close(4500)

    app = install(falcon.asgi.App())
    app.add_websocket_route("/room", Room, [], [])
    app.add_error_handler(ZeroDivisionError, explain)
    for serve in SERVERS.values():
        async with serve(app) as served, connect(served.ws_url("/room")) as client:
            await client.send("crash")
            assert await client.receive_raw() == "sorry"
            assert (await client.wait_closed())[0] == 4500


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


def with_context_variable(send: Send) -> Send:
    """Set a context variable around each send, as tracing middleware does."""

    async def wrapped(event: Event) -> None:
        token = variable.set("sending")
        try:
            await send(event)
        finally:
            variable.reset(token)

    return wrapped


def with_timeout(send: Send) -> Send:
    """Bound each send by a timeout, as a middleware may do."""

    async def wrapped(event: Event) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await send(event)

    return wrapped


@pytest.mark.parametrize("wrap", [with_context_variable, with_timeout])
async def test_middleware_can_wrap_send(
    app: App, caplog: pytest.LogCaptureFixture, wrap: Wrap
) -> None:
    server = Server(app, wrap)
    for _ in range(2):
        server.say()
    assert await server.wait_sent(3) == ["websocket.accept", '{"type":"said"}', '{"type":"said"}']
    server.gate.clear()
    server.say()
    await asyncio.sleep(0)
    server.gate.set()
    await server.wait_sent(4)
    await server.end()
    assert not caplog.records


async def test_send_timeout_of_one_member_does_not_affect_the_sender(
    app: App, disconnects: list[int]
) -> None:
    stalled, speaker = Server(app, with_timeout), Server(app)
    await stalled.wait_sent(1)
    await speaker.wait_sent(1)
    stalled.gate.clear()
    speaker.say()
    assert await speaker.wait_sent(2) == ["websocket.accept", '{"type":"said"}']
    await asyncio.sleep(2 * TIMEOUT_SECONDS)
    speaker.say()
    await speaker.wait_sent(3)
    assert not speaker.task.done()
    await stalled.end()
    await speaker.end()
    assert disconnects == [1001, 1001]


async def test_slow_but_steady_reader_is_not_closed() -> None:
    class Slow:
        async def send(self, event: Event) -> None:
            await asyncio.sleep(0.01)

    class Unaccepted:
        unaccepted = True

        async def accept(self, *_: Any) -> None:
            await connection._forward({"type": "websocket.accept"})

    connection = Connection(asyncio.Queue[Event]().get, Slow().send)
    connection._websocket = Unaccepted()  # type: ignore[assignment]
    connection._configure(RouteConfig(limits=Limits(stall_seconds=0.2)))
    await connection._open()
    for _ in range(3):
        connection._deliver(Publication({"type": "said"}))
    own = asyncio.create_task(connection.send_text("own"))
    for _ in range(60):
        connection._deliver(Publication({"type": "said"}))  # one more message is always pending
        await asyncio.sleep(0.0095)
    assert not connection.closed
    assert own.done()
    await asyncio.wait_for(connection.close(), WAIT_SECONDS)
    await connection.aclose()


async def test_a_slow_reader_is_closed_once_if_what_waits_for_it_is_too_much() -> None:
    sent: list[Event] = []

    async def send(event: Event) -> None:
        sent.append(event)

    class TooMuch:
        def __len__(self) -> int:
            return 1

        def catch_up(self, connection: Connection) -> None:
            connection.abort(4008, "reads too slowly")

    connection = Connection(asyncio.Queue[Event]().get, send)
    connection._set_state(OPEN, None)
    connection._announcements = TooMuch()
    await connection.close(1000)
    assert connection.close_code == 4008
    with pytest.raises(WebSocketDisconnected):
        await connection.send_text("later")
    await asyncio.wait_for(connection.aclose(), WAIT_SECONDS)
    assert [event.get("code") for event in sent] == [4008]


@pytest.mark.parametrize("server", ["push", "uvicorn"])
async def test_client_may_disconnect_before_the_application_starts(
    app: App, connections: list[Connection], server: str, caplog: pytest.LogCaptureFixture
) -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def slowly(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return await app(scope, receive, send)
        entered.set()
        await asyncio.sleep(TIMEOUT_SECONDS)
        try:
            await app(scope, receive, send)
        finally:
            ended.set()

    async with SERVERS[server](slowly) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(HANDSHAKE)
        await asyncio.wait_for(entered.wait(), WAIT_SECONDS)
        writer.close()
        await asyncio.wait_for(ended.wait(), WAIT_SECONDS)
    assert all(connection.closed for connection in connections)
    assert len(app.ws_connection_manager) == 0
    assert app.ws_connection_manager._registry.synced.members_by_room == {}
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("server", ["push", "uvicorn"])
async def test_valid_messages_after_invalid_ones_are_handled_before_the_close(
    app: App, disconnects: list[int], server: str
) -> None:
    async with (
        SERVERS[server](app) as served,
        connect(served.ws_url("/room")) as witness,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(HANDSHAKE)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
        texts = [b"garbage", b"garbage", *[b'{"type":"say"}'] * 3]
        frames = [bytes([0x81, 0x80 | len(text)]) + bytes(4) + text for text in texts]
        writer.write(b"".join(frames) + bytes([0x88, 0x80]) + bytes(4))
        for _ in range(3):
            assert await witness.receive() == {"type": "said"}
        writer.close()
        async with asyncio.timeout(WAIT_SECONDS):
            while not disconnects:  # noqa: ASYNC110 (the condition sets no event)
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("server", ["push", "uvicorn"])
async def test_middleware_sees_all_events_of_a_connection(app: App, server: str) -> None:
    seen: list[str] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def watched_send(event: Event) -> None:
            seen.append(event["type"])
            await send(event)

        async def watched_receive() -> Event:
            event: Event = await receive()
            seen.append(event["type"])
            return event

        is_websocket = scope["type"] == "websocket"
        await app(scope, *((watched_receive, watched_send) if is_websocket else (receive, send)))

    async with SERVERS[server](watched) as served, connect(served.ws_url("/room")) as client:
        await client.send("say")
        assert await client.receive() == {"type": "said"}
        await client.close()
    assert seen == [
        "websocket.connect",
        "websocket.accept",
        "websocket.receive",
        "websocket.send",
        "websocket.disconnect",
    ]

"""The protocol for uvicorn: the fallback, the events for Falcon, the release of ended connections."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import falcon.asgi
import pytest
import uvicorn
import websockets
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from falcon_pachinko import App, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.connection.outbox import ASGIOutbox
from falcon_pachinko.testing import connect, serve
from falcon_pachinko.uvicorn import PushProtocol, attributes, protocol
from falcon_pachinko.uvicorn.ring_outbox import RingOutbox

from ..support.rings import needs_ring, ring_for_small_rooms
from ..support.servers import serve_by_push
from ..support.virtual_transport import PushClient, SteppedLoop

WAIT_SECONDS = 30


class Burst(WebSocketResource):
    @handles_message("burst")
    async def burst(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        for number in range(100):
            await ws.send_media({"number": number})


async def test_unknown_uvicorn_version_falls_back_to_the_portable_outbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attributes, "REQUIRED_ATTRIBUTES", ("gone in a later version",))
    app = install(falcon.asgi.App())
    app.add_websocket_route("/lobby", Burst)
    async with (
        serve(app, ws=PushProtocol) as served,
        connect(served.ws_url("/lobby")) as bob,
    ):
        await bob.send("burst")
        assert len([await bob.receive() for _ in range(100)]) == 100
        (connection,) = app.ws_connection_manager
        assert isinstance(connection._outbox, ASGIOutbox)


@pytest.mark.parametrize("name", attributes.REQUIRED_ATTRIBUTES)
def test_the_installed_uvicorn_has_the_attribute(name: str) -> None:
    source = WebSocketsSansIOProtocol
    assert issubclass(protocol.PushSansIOProtocol, source)
    assert hasattr(source, name) or f"self.{name}" in inspect.getsource(source)


async def test_falcons_own_resources_receive_all_kinds_of_events() -> None:
    class Plain:
        async def on_websocket(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
            await ws.accept()
            text, data = await ws.receive_text(), await ws.receive_data()
            await ws.send_text(text.upper())
            await ws.send_data(data[::-1])
            with pytest.raises(falcon.WebSocketDisconnected):
                await ws.receive_text()

    app: App = install(falcon.asgi.App())
    app.add_route("/plain", Plain())
    async with serve(app, ws=PushProtocol) as served, connect(served.ws_url("/plain")) as client:
        await client.send_raw("text")
        await client.send_raw(b"\x01\x02")
        assert await client.receive_raw() == "TEXT"
        assert await client.receive_raw() == b"\x02\x01"


def test_a_client_that_is_lost_right_before_the_accept_is_not_an_error_of_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = SteppedLoop()

    class Door(WebSocketResource):
        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, **params: Any
        ) -> bool:
            # The loss comes after the last look at the client, in the iteration of the accept.
            loop.call_soon(loop.call_soon, client.vanish)
            return True

    app = install(falcon.asgi.App())
    app.add_websocket_route("/", Door)
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws_ping_interval=None)
    config.load()
    client = PushClient(app, "/", lambda: None, config=config)

    async def scenario() -> None:
        client.connect()
        await loop.run_until_idle()

    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()
    assert client.task.done()
    assert client.violations == []
    assert loop.failures == []
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert len(app.ws_connection_manager) == 0


async def test_a_faulty_frame_behind_a_message_is_not_an_error_of_a_plain_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    received, failed = asyncio.Event(), asyncio.Event()
    raised: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    fail = protocol.PushSansIOProtocol.handle_parser_exception

    def fail_and_note(connection: protocol.PushSansIOProtocol) -> None:
        fail(connection)
        failed.set()

    monkeypatch.setattr(protocol.PushSansIOProtocol, "handle_parser_exception", fail_and_note)

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        event = await receive()
        received.set()
        await failed.wait()
        try:
            await send({"type": "websocket.send", "text": event["text"]})
        except BaseException as error:
            raised.set_result(error)
            raise

    async with (
        asyncio.timeout(WAIT_SECONDS),
        serve_by_push(echo, lifespan="off") as served,
        websockets.connect(served.ws_url("/"), proxy=None) as client,
    ):
        await client.send("hello")
        await received.wait()
        client.transport.write(b"\x83\x80\0\0\0\0")  # an opcode without a meaning
        await client.wait_closed()
        assert client.close_code == 1002
        # As the ASGI specification says; uvicorn logs other exceptions as faults of the application.
        assert isinstance(await raised, OSError)


def test_the_event_that_connections_share_cannot_be_cleared() -> None:
    assert protocol.WRITABLE.is_set()
    with pytest.raises(RuntimeError, match="shared"):
        protocol.WRITABLE.clear()


@asynccontextmanager
async def connection_with_ring() -> AsyncIterator[tuple[protocol.PushSansIOProtocol, RingOutbox]]:
    """Connect to a server with a ring; yield its protocol and its outbox."""
    app = install(falcon.asgi.App())
    app.add_websocket_route("/lobby", Burst)
    with ring_for_small_rooms(asyncio.get_running_loop()):
        async with serve(app, ws=PushProtocol) as served, connect(served.ws_url("/lobby")) as bob:
            await bob.send("burst")
            await bob.receive()
            (connection,) = app.ws_connection_manager
            outbox = connection._outbox
            assert isinstance(outbox, RingOutbox)
            found = outbox.noting.plain.get_protocol()
            assert isinstance(found, protocol.PushSansIOProtocol)
            yield found, outbox


@needs_ring
async def test_with_a_ring_all_that_uvicorn_writes_or_closes_is_noted() -> None:
    async with connection_with_ring() as (push, outbox):
        assert push.transport is outbox.transport
        assert outbox.noting not in outbox.batch.unsent
        push.transport.close()
        assert outbox.noting in outbox.batch.unsent


@needs_ring
async def test_a_ring_does_not_write_behind_the_end_of_what_a_client_sends() -> None:
    async with connection_with_ring() as (push, outbox):
        push.eof_received()  # the transport closes itself afterwards
        assert outbox.noting in outbox.batch.unsent
        assert outbox.transport.is_closing()


@needs_ring
async def test_an_outbox_is_told_of_its_lost_connection_where_uvicorn_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(protocol: object, exc: object) -> None:
        lost.set()
        raise RuntimeError("a bug")

    lost = asyncio.Event()
    failures: list[dict[str, Any]] = []
    async with connection_with_ring() as (push, outbox):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: failures.append(context))
        monkeypatch.setattr(WebSocketsSansIOProtocol, "connection_lost", fail)
        push.transport.abort()
        async with asyncio.timeout(WAIT_SECONDS):
            await lost.wait()
        assert outbox.write_now is None
        assert outbox.closed
        assert not outbox.batch.unsent
        loop.set_exception_handler(None)
        monkeypatch.undo()
        WebSocketsSansIOProtocol.connection_lost(push, None)  # or the server would wait for it
    assert [str(context["exception"]) for context in failures] == ["a bug"]

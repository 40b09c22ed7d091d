"""Traces: the span of a handler, its error, and the deliveries on other nodes that belong to it."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import falcon.asgi
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from falcon_pachinko import (
    App,
    ConfigurationError,
    MessageError,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.publication import DEFAULT_HEADER, Header, Publication
from falcon_pachinko.server.tracing import Tracing
from falcon_pachinko.testing import Client, Served, run, serve
from falcon_pachinko.uvicorn import PushProtocol

from ..support.backends import TIMING, wait_until
from ..support.redis_servers import RedisServer, running_redis

SECRET = "a text of a client"


class Room(WebSocketResource):
    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, *, name: str) -> bool:
        self.connection.user = name
        await self.join_room("room")
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("room", {"type": "said", **payload})

    @handles_message("say_to_user")
    async def say_to_user(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.manager.send_to_user("bob", {"type": "said", **payload})

    @handles_message("set_record")
    async def set_record(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.manager.update_presence(
            self.connection, "room", payload, message={"type": "said", **payload}
        )

    @handles_message("refuse")
    async def refuse(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise MessageError(SECRET, code="refused")

    @handles_message("fail")
    async def fail(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise ZeroDivisionError(SECRET)

    @handles_binary
    async def binary(self, ws: WebSocketLike, data: bytes) -> None:
        await ws.send_media({"type": "done"})


class Traced:
    """An application whose spans are in memory."""

    def __init__(self, sampler: Sampler = ALWAYS_ON, url: str = "") -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(provider)
        backend = backend_from_url(url, prefix="traces", timing=TIMING) if url else None
        self.app = install(falcon.asgi.App(), backend=backend, around=[self.tracing])
        self.app.add_websocket_route("/rooms/{name}", Room)

        @self.app.lifespan
        async def trace(app: App) -> AsyncIterator[None]:
            with self.tracing.connect(app.ws_connection_manager.backend):
                yield

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        """The spans that have ended, by name."""
        return {span.name: span for span in self.exporter.get_finished_spans()}


async def span_of(traced: Traced, name: str) -> ReadableSpan:
    await wait_until(lambda: name in traced.spans)
    return traced.spans[name]


async def test_a_span_has_the_route_the_type_the_handler_and_the_connection() -> None:
    traced = Traced()
    async with run(traced.app) as server, server.connect("/rooms/alice") as client:
        await client.send({"type": "say", "payload": {"text": SECRET}})
        await client.receive_until("said")
        (connection,) = traced.app.ws_connection_manager
        span = await span_of(traced, "/rooms/{name} say")
        assert dict(span.attributes or {}) == {
            "messaging.system": "websocket",
            "messaging.operation.type": "process",
            "http.route": "/rooms/{name}",
            "code.function.name": "Room.say",
            "falcon_pachinko.message.type": "say",
            "falcon_pachinko.connection.id": connection.id,
        }
    assert (span.kind, span.parent) == (SpanKind.SERVER, None)
    assert span.status.status_code is StatusCode.UNSET
    assert list(traced.spans) == [span.name], "one process delivers within the handler's span"


@pytest.mark.parametrize(
    ("kind", "error", "status"),
    [
        ("refuse", "MessageError", StatusCode.UNSET),
        ("fail", "ZeroDivisionError", StatusCode.ERROR),
    ],
)
async def test_an_error_is_its_type_alone(kind: str, error: str, status: StatusCode) -> None:
    traced = Traced()
    async with run(traced.app) as server, server.connect("/rooms/alice") as client:
        await client.send({"type": kind, "payload": {"text": SECRET}})
        span = await span_of(traced, f"/rooms/{{name}} {kind}")
        if kind == "fail":
            await client.wait_closed()
    assert (span.attributes or {})["error.type"] == error
    assert span.status.status_code is status
    assert span.events == ()
    assert SECRET not in span.to_json()


async def test_a_binary_message_and_a_room_of_several_have_spans() -> None:
    traced = Traced()
    traced.app.add_rooms_route("/ws", "/rooms/{name}")
    async with run(traced.app) as server:
        async with server.connect("/rooms/alice") as client:
            await client.send_raw(b"\x00")
            await client.receive_until("done")
            await span_of(traced, "/rooms/{name} binary")
        async with server.connect("/ws") as client:
            await client.send({"type": "clientJoin", "payload": {"room": "alice"}, "ref": "1"})
            await client.send({"type": "say", "room": "alice", "payload": {"text": "a"}})
            await span_of(traced, "/rooms/{name} say")


@asynccontextmanager
async def two_nodes(one: Traced, other: Traced) -> AsyncIterator[tuple[Client, Client]]:
    """Serve both applications; yield a client of each, in one room."""
    async with AsyncExitStack() as stack:
        clients = []
        for traced, user in ((one, "alice"), (other, "bob")):
            served: Served = await stack.enter_async_context(serve(traced.app, ws=PushProtocol))
            connecting = served.connect(f"/rooms/{user}")
            clients.append(await stack.enter_async_context(connecting))
        yield clients[0], clients[1]


@pytest.fixture
def redis_server() -> Any:
    with running_redis() as server:
        yield server


@pytest.mark.redis
@pytest.mark.parametrize("kind", ["say", "say_to_user", "set_record"])
async def test_the_delivery_on_the_other_node_is_a_child_of_the_handler(
    redis_server: RedisServer, kind: str
) -> None:
    one, other = Traced(url=redis_server.url), Traced(url=redis_server.url)
    async with two_nodes(one, other) as (alice, bob):
        await alice.send({"type": kind, "payload": {"text": SECRET}})
        await bob.receive_until("said", timeout_seconds=5)
        handler = await span_of(one, f"/rooms/{{name}} {kind}")
        delivery = await span_of(other, "deliver")
    assert delivery.parent is not None
    assert handler.context is not None
    assert delivery.parent.is_remote
    assert delivery.parent.trace_id == handler.context.trace_id
    assert delivery.parent.span_id == handler.context.span_id
    assert delivery.kind is SpanKind.CONSUMER
    assert SECRET not in delivery.to_json()
    assert not other.spans.keys() - {"deliver"}
    assert "publish_nowait" not in vars(one.app.ws_connection_manager.backend), "disconnected"


@pytest.mark.redis
async def test_what_the_sampler_drops_is_not_carried(redis_server: RedisServer) -> None:
    one, other = Traced(ALWAYS_OFF, redis_server.url), Traced(url=redis_server.url)
    async with two_nodes(one, other) as (alice, bob):
        await alice.send({"type": "say", "payload": {"text": "a"}})
        await bob.receive_until("said", timeout_seconds=5)
        await bob.send({"type": "say", "payload": {"text": "b"}})
        await span_of(other, "deliver")
    delivered = [span for span in other.exporter.get_finished_spans() if span.name == "deliver"]
    handler = other.spans["/rooms/{name} say"]
    assert handler.context is not None
    assert [span.parent and span.parent.span_id for span in delivered] == [handler.context.span_id]


def test_a_traceparent_that_is_not_valid_begins_no_error() -> None:
    traced = Traced()
    publication = Publication.decode(b'{"traceparent":"00-x"}\n{}')
    delivered: list[Any] = []
    traced.tracing._delivered(delivered.append)(publication)
    assert delivered == [publication]
    assert traced.spans["deliver"].parent is None


def test_a_carried_span_leaves_the_header_as_it_was() -> None:
    for header in (DEFAULT_HEADER, Header(exclude_users=("alice",))):
        traced = Header(exclude_users=header.exclude_users, traceparent="00-a-b-01")
        found = Publication.decode(Publication.of_encoded(b"{}", header=traced).encode())
        assert found.traceparent == "00-a-b-01"
        assert found.header == header
        assert (found.header is DEFAULT_HEADER) is (header is DEFAULT_HEADER)
        assert b"traceparent" not in found.encode(), "a history does not keep it"


def test_without_traces_opentelemetry_is_not_imported() -> None:
    program = (
        "import sys, falcon.asgi, falcon_pachinko, falcon_pachinko.uvicorn\n"
        "falcon_pachinko.install(falcon.asgi.App())\n"
        "print([name for name in sys.modules if 'opentelemetry' in name or 'tracing' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_without_the_package_there_is_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match="pip install opentelemetry-api"):
        Tracing()

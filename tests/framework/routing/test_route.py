"""Routes: checks at registration, the positions of a reconnecting client, allowed origins."""

import functools
import re
from collections import deque
from typing import Any

import falcon.asgi
import falcon.testing
import pytest

from falcon_pachinko import (
    App,
    RegistrationError,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.history import Position
from falcon_pachinko.routing.route import (
    MAX_POSITIONS,
    UNKNOWN_POSITION,
    origin_is_allowed,
    positions_in,
)
from falcon_pachinko.testing import connect, run, serve


class Room(WebSocketResource):
    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        return True


@pytest.fixture
def app() -> App:
    return install(falcon.asgi.App())


class NoCoroutine(Room):
    def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:  # type: ignore[override]
        ...


class NeedsArgument(Room):
    def __init__(self, history: int) -> None: ...


class BadHandler(Room):
    @handles_message("say")
    async def say(self) -> None: ...


class TakesOurPlace(Room):
    @handles_message("manager")
    async def manager(self, ws: WebSocketLike, payload: Any) -> None: ...  # type: ignore[override]


class TakesOurConnection(Room):
    connection = "bus"  # type: ignore[assignment]


class NoLimits(Room):
    limits = {"outbox_bytes": 10}  # type: ignore[assignment]  # noqa: RUF012


class NotAResource:
    async def on_websocket(self, req: Any, ws: Any, name: str) -> None: ...


@pytest.mark.parametrize(
    ("template", "resource", "problem"),
    [
        ("/r/{name}", Room(), "neither a class nor a callable"),
        ("/r/{name}", NotAResource, "not a WebSocketResource"),
        ("/r/{name}", NoCoroutine, "on_disconnect must be a coroutine function"),
        ("/r/{name}", NoLimits, "write limits = Limits(...)"),
        ("/r/{name}", NeedsArgument, "missing a required argument: 'history'"),
        ("/r/{name}", BadHandler, "it takes (self, ws, payload)"),
        ("/r/{name}", TakesOurPlace, "manager would replace an attribute of the framework"),
        ("/r/{name}", TakesOurConnection, "connection would replace an attribute of the framework"),
        ("/r/{name}", functools.partial(TakesOurConnection), "connection would replace"),
        ("/r/{name}", dict, "no signature found"),
        ("/r", Room, "cannot be called with the fields of '/r' (none)"),
    ],
)
def test_invalid_resource_is_rejected_at_registration(
    app: App, template: str, resource: Any, problem: str
) -> None:
    with pytest.raises(RegistrationError, match=re.escape(problem)):
        app.add_websocket_route(template, resource)


def test_fields_of_a_template_can_have_converters(app: App) -> None:
    app.add_websocket_route("/r/{name:uuid}/x", Room)


async def test_factory_that_returns_no_resource_is_an_internal_error(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.add_websocket_route("/r/{name}", lambda: 5)  # type: ignore[arg-type,return-value]
    async with serve(app) as served:
        with pytest.raises(Exception, match="403"):
            async with connect(served.ws_url("/r/x")):
                pass
    assert "it must return a WebSocketResource" in caplog.text


async def test_the_queue_of_falcon_is_released_where_it_is_turned_off(app: App) -> None:
    app.add_websocket_route("/r/{name}", Room)
    queues: list[Any] = []
    for events in (0, 4):
        app.ws_options.max_receive_queue = events
        async with serve(app) as served, connect(served.ws_url("/r/x")):
            (connection,) = app.ws_connection_manager
            receiver: Any = connection._websocket
            queues.append(receiver._buffered_receiver._messages)
    assert queues[0] == ()
    assert queues[1] == deque()


async def test_names_that_the_framework_does_not_use_are_free(app: App) -> None:
    class Free(Room):
        table = "poker"

        @handles_message("disconnect")
        async def disconnect(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            await ws.send_text(f"disconnect at the {self.table} table")

        @handles_message("listen")
        async def listen(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            await ws.send_text("listen")

    app.add_websocket_route("/r/{name}", Free)
    async with run(app) as running, running.connect("/r/x") as client:
        await client.send("disconnect")
        assert await client.receive_raw() == "disconnect at the poker table"
        await client.send("listen")
        assert await client.receive_raw() == "listen"


async def test_a_factory_that_returns_a_resource_again_is_an_internal_error(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    only = Room()
    app.add_websocket_route("/r/{name}", lambda: only)
    async with serve(app) as served, connect(served.ws_url("/r/x")):
        with pytest.raises(Exception, match="403"):
            async with connect(served.ws_url("/r/y")):
                pass
    assert "it must return a new one each time" in caplog.text


def test_the_class_of_an_undeclared_factory_is_needed_for_the_contract(app: App) -> None:
    app.add_websocket_route("/r/{name}", lambda: Room())
    (route,) = app.ws_routes
    with pytest.raises(RegistrationError, match="does not declare its return type"):
        _ = route.contract


@pytest.mark.parametrize(
    ("query", "positions"),
    [
        ("", ()),
        ("since=e:3", (Position("e", 3),)),
        ("since=e:3&since=f:0", (Position("e", 3), Position("f", 0))),
        ("since=three", (UNKNOWN_POSITION,)),
        ("since=e:3&" * (MAX_POSITIONS + 9), (Position("e", 3),) * MAX_POSITIONS),
    ],
)
def test_positions_are_read_from_the_query(query: str, positions: tuple[Position, ...]) -> None:
    req = falcon.testing.create_asgi_req(query_string=query)
    assert positions_in(req.get_param_as_list("since", default=[])) == positions


def handshake(scheme: str, host: str, origin: str) -> falcon.asgi.Request:
    """Return the request of a handshake with these headers."""
    scope = falcon.testing.create_scope_ws(scheme=scheme)
    scope["headers"] = [(b"host", host.encode()), (b"origin", origin.encode())]
    return falcon.asgi.Request(scope, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scheme", "host", "origin", "allowed"),
    [
        ("ws", "a.example", "http://a.example", True),
        ("ws", "a.example:8000", "http://a.example:8000", True),
        ("ws", "A.example:80", "http://a.example", True),
        ("wss", "a.example:443", "https://a.example", True),
        ("wss", "a.example", "https://a.example:443", True),
        ("wss", "[::1]:443", "https://[::1]", True),
        ("wss", "a.example", "http://a.example", False),
        ("ws", "a.example", "https://a.example", False),
        ("ws", "a.example:443", "https://a.example", False),
        ("wss", "a.example:80", "http://a.example", False),
        ("wss", "a.example:80", "https://a.example", False),
        ("wss", "a.example", "https://a.example:444", False),
        ("wss", "a.example", "https://a.example.evil.example", False),
        ("ws", "a.example", "null", False),
        ("ws", "a.example", "", False),
        ("ws", "", "http://", False),
        ("ws", "", "", False),
        ("ws", "a.example/x", "http://a.example/x", False),
        ("ws", "u@a.example", "http://u@a.example", False),
    ],
)
def test_the_own_origin_is_that_of_the_same_scheme_host_and_port(
    scheme: str, host: str, origin: str, allowed: bool
) -> None:
    assert origin_is_allowed(handshake(scheme, host, origin), ()) is allowed


def test_an_allowed_origin_counts_with_its_scheme() -> None:
    for origin, allowed in (("https://b.example", True), ("http://b.example", False)):
        req = handshake("wss", "a.example", origin)
        assert origin_is_allowed(req, ["https://b.example"]) is allowed

"""Hooks around handlers: their order, what they see and change, what their exceptions do."""

import asyncio
import re
from typing import Any

import falcon
import falcon.asgi
import msgspec
import pytest

from falcon_pachinko import (
    App,
    HandlerCall,
    InvalidPayload,
    Limits,
    Message,
    MessageError,
    NextHandler,
    Payload,
    RegistrationError,
    Reject,
    RouteConfig,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
    install,
)
from falcon_pachinko.errors import BackendUnavailable
from falcon_pachinko.handlers import HandlerTable
from falcon_pachinko.messages import ClientPing
from falcon_pachinko.testing import Client, connect, run
from falcon_pachinko.uvicorn import PushProtocol

from ..support.servers import SERVERS

CLIENT = "0123456789abcdef" * 2


class Say(Payload, frozen=True):
    text: str = ""


class ServerSaid(Message, frozen=True):
    text: str


class ServerOther(Message, frozen=True):
    pass


class Plain(WebSocketResource):
    """A class without a hook."""

    limits = Limits(handler_seconds=0.5, close_seconds=0.5)

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        self.connection.user = "alice"
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: Say) -> ServerSaid:
        RECORD.append(f"handler {payload.text}")
        return ServerSaid(text=payload.text)

    @handles_message("note")
    async def note(self, ws: WebSocketLike, payload: dict[str, Any]) -> None: ...

    @handles_message("bounded", per_second=0.001)
    async def bounded(self, ws: WebSocketLike, payload: Say) -> None: ...

    @handles_message("guarded", action="moderate")
    async def guarded(self, ws: WebSocketLike, payload: Say) -> None: ...

    @handles_message("order", once=True)
    async def order(self, ws: WebSocketLike, payload: Say) -> ServerSaid:
        RECORD.append(f"order {payload.text}")
        return ServerSaid(text=payload.text)

    @handles_message("hang")
    async def hang(self, ws: WebSocketLike, payload: Say) -> None:
        await asyncio.Event().wait()

    @handles_binary
    async def blob(self, ws: WebSocketLike, data: bytes) -> None:
        RECORD.append(f"handler {data!r}")

    async def authorize(self, user: Any, action: str, room: str | None) -> bool:
        return action != "moderate"


class Base(Plain):
    async def around(self, call: HandlerCall, next: NextHandler) -> Message | None:
        RECORD.append("base in")
        reply = await next(call)
        RECORD.append("base out")
        return reply


class Hooked(Base):
    async def around(self, call: HandlerCall, next: NextHandler) -> Message | None:
        RECORD.append(f"class in {call.handler.rpartition('.')[2]}")
        reply = await super().around(call, next)
        RECORD.append(f"class out {type(reply).__name__}")
        return reply


RECORD: list[Any] = []


@pytest.fixture(autouse=True)
def empty_record() -> None:
    RECORD.clear()


def recording(name: str) -> Any:
    async def hook(call: HandlerCall, next: NextHandler) -> Message | None:
        RECORD.append(f"{name} in")
        try:
            return await next(call)
        finally:
            RECORD.append(f"{name} out")

    return hook


async def keep(call: HandlerCall, next: NextHandler) -> Message | None:
    """Record the call and its outcome."""
    try:
        reply = await next(call)
    except BaseException as error:
        RECORD.append((call, error))
        raise
    RECORD.append((call, reply))
    return reply


def make_app(*around: Any, owner: type[WebSocketResource] = Plain, inner: Any = ()) -> App:
    app = install(falcon.asgi.App(), around=around)
    app.add_websocket_route("/ws", owner, route_config=RouteConfig(around=inner))
    return app


async def ask(client: Client, kind: str, text: str = "a", ref: str | None = "r") -> Any:
    await client.send({"type": kind, "payload": {"text": text}, **({"ref": ref} if ref else {})})
    return await client.receive()


@pytest.fixture(params=[{"ws": PushProtocol}, {}], ids=["push", "portable"])
def options(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_hooks_enclose_the_handler_from_install_over_the_route_to_the_class(
    options: Any,
) -> None:
    app = make_app(
        recording("first"), recording("second"), owner=Hooked, inner=[recording("route")]
    )
    async with run(app, **options) as server, server.connect("/ws") as client:
        reply = await ask(client, "say")
    assert reply == {"type": "serverSaid", "payload": {"text": "a"}, "ref": "r"}
    before = ["first in", "second in", "route in", "class in say", "base in"]
    after = ["base out", "class out ServerSaid", "route out", "second out", "first out"]
    assert [*before, "handler a", *after] == RECORD


@pytest.mark.parametrize("name", sorted(SERVERS))
async def test_hooks_run_under_every_server(name: str) -> None:
    app = make_app(keep, owner=Hooked)
    async with SERVERS[name](app) as endpoint, connect(endpoint.ws_url("/ws")) as client:
        assert (await ask(client, "say"))["payload"] == {"text": "a"}
    assert RECORD[-1][0].message_type == "say"


async def test_a_call_names_the_message_the_connection_and_the_handler(options: Any) -> None:
    app = make_app(keep)
    async with run(app, **options) as server, server.connect("/ws") as client:
        await ask(client, "say")
        await ask(client, "say", ref=None)
        await client.send_raw(b"\x00\x01")
        await ask(client, "note")
        (connection,) = app.ws_connection_manager
    (said, reply), (unasked, _), (binary, nothing), (note, _) = [
        each for each in RECORD if isinstance(each, tuple)
    ]
    assert (said.message_type, said.payload, said.ref) == ("say", Say("a"), "r")
    assert (said.ws, said.resource.connection) == (connection, connection)
    assert isinstance(said.resource, Plain)
    assert said.handler == "Plain.say"
    assert reply == ServerSaid(text="a")
    assert unasked.ref is None
    assert (binary.message_type, binary.payload, binary.ref) == (None, b"\x00\x01", None)
    assert (binary.handler, nothing) == ("Plain.blob", None)
    assert note.payload == {"text": "a"}
    with pytest.raises(AttributeError):
        said.ref = "other"


async def test_a_hook_may_change_the_payload_and_the_reply_or_answer_itself() -> None:
    async def hook(call: HandlerCall, next: NextHandler) -> Message | None:
        text = getattr(call.payload, "text", "")
        if text == "cached":
            return ServerSaid(text="from the cache")
        if text == "nothing":
            return None
        if text == "undeclared":
            return ServerOther()
        if text == "again":
            await next(call)
        reply = await next(msgspec.structs.replace(call, payload=Say(text=text.upper())))
        return ServerSaid(text=f"<{reply.text}>") if isinstance(reply, ServerSaid) else reply

    async with run(make_app(hook)) as server, server.connect("/ws") as client:
        assert (await ask(client, "say", "x"))["payload"] == {"text": "<X>"}
        assert (await ask(client, "say", "cached"))["payload"] == {"text": "from the cache"}
        assert await ask(client, "say", "nothing") == {
            "type": "serverError",
            "payload": {"code": "internal", "error": "This could not be done."},
            "ref": "r",
        }
        assert (await ask(client, "note", "nothing"))["type"] == "serverAck"
        assert (await ask(client, "say", "undeclared"))["payload"]["code"] == "internal"
        assert [each for each in RECORD if "handler" in each] == ["handler X"]
        assert (await ask(client, "say", "again"))["payload"] == {"text": "<AGAIN>"}
        assert RECORD[1:] == ["handler again", "handler AGAIN"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MessageError("Not now.", code="notNow"), "notNow"),
        (BackendUnavailable("down"), "unavailable"),
        (InvalidPayload("say", "text", "too loud"), "invalidPayload"),
    ],
    ids=lambda each: str(each),
)
async def test_an_error_of_a_hook_is_the_reply(error: Exception, code: str, when: str) -> None:
    async def hook(call: HandlerCall, next: NextHandler) -> Message | None:
        if when == "after":
            await next(call)
        raise error

    async with run(make_app(hook)) as server, server.connect("/ws") as client:
        for _ in range(2):  # the connection stays open
            reply = await ask(client, "say")
            assert (reply["type"], reply["ref"]) == ("serverError", "r")
            assert reply["payload"]["code"] == code


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Reject(4005, "enough"), (4005, "enough")),
        (falcon.HTTPForbidden(), (3403, "Forbidden")),
        (ZeroDivisionError(), (1011, "Internal Server Error")),
    ],
    ids=repr,
)
async def test_another_exception_of_a_hook_closes_as_one_of_the_handler(
    error: Exception, expected: tuple[int, str]
) -> None:
    async def hook(call: HandlerCall, next: NextHandler) -> Message | None:
        raise error

    async with run(make_app(hook)) as server, server.connect("/ws") as client:
        await client.send("say")
        assert await client.wait_closed() == expected


async def test_a_hook_sees_refusals_and_may_turn_an_error_into_a_reply() -> None:
    async def hook(call: HandlerCall, next: NextHandler) -> Message | None:
        try:
            return await keep(call, next)
        except ZeroDivisionError:
            raise MessageError("Do not divide.", code="division") from None

    class Dividing(Plain):
        @handles_message("divide")
        async def divide(self, ws: WebSocketLike, payload: Say) -> None:
            raise ZeroDivisionError

    app = make_app(hook, owner=Dividing)
    async with run(app) as server, server.connect("/ws") as client:
        assert (await ask(client, "bounded"))["type"] == "serverAck"
        codes = [
            (await ask(client, kind))["payload"]["code"]
            for kind in ("bounded", "guarded", "divide")
        ]
    assert codes == ["tooManyMessages", "forbidden", "division"]
    assert [getattr(error, "code", error) for _, error in RECORD[1:3]] == codes[:2]
    assert RECORD[3][0].handler.endswith("Dividing.divide")


async def test_an_answer_from_the_kept_reply_passes_no_hook(options: Any) -> None:
    async def shout(call: HandlerCall, next: NextHandler) -> Message | None:
        assert call.resource.request_key is None or call.resource.request_key.ref == call.ref
        reply = await keep(call, next)
        return ServerSaid(text=f"{reply.text}!") if isinstance(reply, ServerSaid) else reply

    app = make_app(shout)
    async with run(app, **options) as server:
        for _ in range(2):
            async with server.connect(f"/ws?client={CLIENT}") as client:
                reply = await ask(client, "order", ref="7")
                assert reply == {"type": "serverSaid", "payload": {"text": "a!"}, "ref": "7"}
        assert RECORD[0] == "order a"
        (call, _), *others = RECORD[1:]
        assert (call.message_type, call.payload, call.ref, others) == ("order", Say("a"), "7", [])
        async with server.connect("/ws") as client:  # without the id of a client it is not kept
            for ref in ("8", "8", None):
                assert (await ask(client, "order", ref=ref))["payload"] == {"text": "a!"}
    assert [call.ref for call, _ in RECORD[3::2]] == ["8", "8", None]


async def test_an_error_of_a_hook_is_kept_as_the_outcome_of_a_request() -> None:
    async def hook(call: HandlerCall, next: NextHandler) -> Message | None:
        RECORD.append(call)
        raise MessageError("Sold out.", code="soldOut")

    async with run(make_app(hook)) as server:
        for _ in range(2):
            async with server.connect(f"/ws?client={CLIENT}") as client:
                assert (await ask(client, "order"))["payload"]["code"] == "soldOut"
    assert len(RECORD) == 1


async def test_a_hook_and_its_handler_share_the_time_of_a_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with run(make_app(keep, owner=Hooked)) as server, server.connect("/ws") as client:
        assert (await ask(client, "hang"))["payload"]["code"] == "timeout"
        assert (await ask(client, "say"))["payload"] == {"text": "a"}
    assert "Plain.hang took more than 0.5 s and was cancelled" in caplog.text
    (error,) = [each[1] for each in RECORD if isinstance(each, tuple)][:1]
    assert isinstance(error, asyncio.CancelledError)


async def test_only_messages_with_a_handler_and_a_valid_payload_reach_a_hook() -> None:
    async def authenticate(token: str) -> object | None:
        return None

    app = install(falcon.asgi.App(), around=[keep], authenticate=authenticate)
    app.add_websocket_route("/ws", Hooked)
    async with run(app) as server, server.connect("/ws") as client:
        await client.send("clientPing")
        assert (await client.receive())["type"] == "serverPong"
        await client.send("unknown")
        assert (await client.receive())["payload"]["code"] == "unknownMessage"
        await client.send("say", {"text": 5})
        assert (await client.receive())["payload"]["code"] == "invalidPayload"
        await client.send("clientRefreshSession", {"token": "x"})
        assert (await client.wait_closed())[0] == 4401
    assert RECORD == []


async def test_hooks_run_for_each_room_of_a_connection() -> None:
    app = install(falcon.asgi.App(), around=[keep])
    app.add_websocket_route("/rooms/{name}", Hooked)
    app.add_rooms_route("/ws", "/rooms/{name}")
    async with run(app) as server, server.connect("/ws") as client:
        room = await client.join("a")
        await room.send({"type": "say", "payload": {"text": "x"}, "ref": "1"})
        assert (await room.receive_until("serverSaid"))[-1]["ref"] == "1"
    ((call, _),) = [each for each in RECORD if isinstance(each, tuple)]
    assert call.ws is call.resource.connection
    assert (call.message_type, call.ref) == ("say", "1")


def test_the_table_of_a_class_without_a_hook_holds_its_own_handlers() -> None:
    table = HandlerTable.of(Plain)
    methods = [Plain.say, Plain.note, Plain.hang]
    assert [each.handler for each in table.entries.values() if each.handler in methods] == methods
    assert table.binary is Plain.blob
    with_hook = HandlerTable.of(Plain, RouteConfig(around=[keep]))
    assert not any(each.handler in methods for each in with_hook.entries.values())
    assert with_hook.binary is not Plain.blob
    assert with_hook.by_type == table.by_type
    assert HandlerTable.of(Plain) is table


def test_the_hooks_of_a_class_are_composed_once() -> None:
    hooks = [recording("first"), keep]
    table = HandlerTable.of(Hooked, RouteConfig(around=hooks))
    assert HandlerTable.of(Hooked, RouteConfig(around=tuple(hooks))) is table
    assert HandlerTable.of(Hooked, RouteConfig(around=hooks[::-1])) is not table
    ping = HandlerTable.of(Plain).entries[ClientPing].handler
    assert table.entries[ClientPing].handler is ping


async def no_parameter() -> None: ...


def not_async(call: HandlerCall, next: NextHandler) -> None: ...


class Hook:
    """An object that is called as a hook."""

    async def __call__(self, call: HandlerCall, next: NextHandler) -> Message | None:
        return await keep(call, next)


@pytest.mark.parametrize("around", [keep, "ab", [None], [no_parameter], [not_async], [Plain]])
def test_a_hook_that_cannot_work_is_refused_at_registration(around: Any) -> None:
    with pytest.raises(RegistrationError, match="hook"):
        install(falcon.asgi.App(), around=around)
    with pytest.raises(RegistrationError, match="hook"):
        RouteConfig(around=around)


async def test_an_object_and_a_bound_method_are_hooks() -> None:
    hook = Hook()
    async with run(make_app(hook, hook.__call__)) as server, server.connect("/ws") as client:
        await ask(client, "say")
    assert len(RECORD) == 3


class Sync(Plain):
    def around(self, call: HandlerCall, next: NextHandler) -> Any:
        return next(call)


class Short(Plain):
    async def around(self, call: HandlerCall) -> None:  # type: ignore[override]
        ...


class Static(Plain):
    @staticmethod
    async def around(call: HandlerCall, next: NextHandler) -> None: ...


class Marked(Plain):
    @handles_message("around")
    async def around(self, ws: Any, payload: Any) -> None: ...


@pytest.mark.parametrize("owner", [Sync, Short, Static, Marked])
def test_a_hook_of_a_class_that_cannot_work_is_refused_at_registration(owner: Any) -> None:
    app = install(falcon.asgi.App())
    with pytest.raises(RegistrationError, match=re.escape(f"{owner.__name__}.around")):
        app.add_websocket_route("/ws", owner)

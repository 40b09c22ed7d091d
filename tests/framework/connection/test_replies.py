"""Replies to requests: what handlers return, errors, and the ``ref`` that they share with the request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Optional

import falcon.asgi
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko import (
    Limits,
    Message,
    MessageError,
    RegistrationError,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
    install,
)
from falcon_pachinko.connection.replies import Request, reply_types_of, request_of
from falcon_pachinko.handlers import HandlerTable
from falcon_pachinko.messages import MAX_REF_CHARACTERS, ServerAck
from falcon_pachinko.testing import Client, connect

from ..support.servers import SERVERS


class ServerDiceRolled(Message, frozen=True):
    value: int


class ServerCoinTossed(Message, frozen=True):
    heads: bool = True


class Roll(msgspec.Struct):
    sides: int


class Table(WebSocketResource):
    limits = Limits(handler_seconds=0.3)

    @handles_message("roll")
    async def roll(self, ws: WebSocketLike, payload: Roll) -> ServerDiceRolled | None:
        if payload.sides == 0:
            raise MessageError("A die has sides.", code="noSides")
        return ServerDiceRolled(value=payload.sides) if payload.sides > 1 else None

    @handles_message("rollOrToss", action="play")
    async def roll_or_toss(
        self, ws: WebSocketLike, payload: Roll
    ) -> ServerDiceRolled | ServerCoinTossed:
        if payload.sides == 0:
            return None  # type: ignore[return-value]
        return ServerCoinTossed() if payload.sides == 2 else ServerDiceRolled(value=payload.sides)

    @handles_message("nothing", per_second=0.001, burst=2)
    async def nothing(self, ws: WebSocketLike, payload: dict[str, Any]) -> None: ...

    @handles_message("hang")
    async def hang(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await asyncio.sleep(60)

    @handles_message("stubborn")
    async def stubborn(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    @handles_message("unannotated")
    async def unannotated(self, ws, payload):  # type: ignore[no-untyped-def]
        return ServerDiceRolled(value=1)

    async def authorize(self, user: Any, action: str, room: str | None) -> bool:
        return True


@pytest.fixture(params=SERVERS)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """A client of the table, on each server in turn."""
    app = install(falcon.asgi.App())
    app.add_websocket_route("/table", Table)
    async with SERVERS[request.param](app) as server, connect(server.ws_url("/table")) as client:
        yield client


async def ask(client: Client, **message: Any) -> Any:
    """Send a message, and return the next one."""
    await client.send(message)
    return await client.receive()


async def test_a_request_gets_the_result_of_its_handler_with_its_ref(client: Client) -> None:
    for kind, sides, reply in (
        ("roll", 6, {"type": "serverDiceRolled", "payload": {"value": 6}}),
        ("roll", 1, {"type": "serverAck", "payload": {}}),
        ("rollOrToss", 2, {"type": "serverCoinTossed", "payload": {"heads": True}}),
        ("nothing", 0, {"type": "serverAck", "payload": {}}),
        ("clientPing", 0, {"type": "serverPong", "payload": {}}),
    ):
        ref = 'a "ref" \u2713'
        answer = await ask(client, type=kind, payload={"sides": sides}, ref=ref)
        assert answer == {**reply, "ref": ref}


async def test_a_message_without_a_ref_is_not_acknowledged(client: Client) -> None:
    await client.send("nothing")
    await client.send("roll", {"sides": 1})
    assert await ask(client, type="roll", payload={"sides": 4}) == {
        "type": "serverDiceRolled",
        "payload": {"value": 4},
    }


async def test_each_error_has_the_ref_of_its_request(client: Client) -> None:
    field = "sides"
    for message, code in (
        ({"type": "roll", "payload": {"sides": 0}}, "noSides"),
        ({"type": "roll", "payload": {"sides": "six"}}, "invalidPayload"),
        ({"type": "unknown"}, "unknownMessage"),
        ({"payload": {}}, "unknownMessage"),
        ({"type": "hang"}, "timeout"),
        ({"type": "unannotated"}, "internal"),
    ):
        answer = await ask(client, **message, ref="7")
        assert (answer["type"], answer["payload"]["code"], answer["ref"]) == (
            "serverError",
            code,
            "7",
        )
        assert answer["payload"].get("field") == (field if code == "invalidPayload" else None)
    answers = [await ask(client, type="nothing", ref=str(number)) for number in range(3)]
    assert [each["ref"] for each in answers] == ["0", "1", "2"]
    assert answers[2]["payload"]["code"] == "tooManyMessages"


@pytest.mark.parametrize("ref", ["", "x" * (MAX_REF_CHARACTERS + 1), 7, None, {"a": []}])
async def test_an_invalid_ref_is_an_error_without_one(client: Client, ref: Any) -> None:
    for kind in ("roll", "clientPing"):
        answer = await ask(client, type=kind, payload={"sides": 6}, ref=ref)
        assert answer.keys() == {"type", "payload"}
        assert (answer["payload"]["code"], answer["payload"]["field"]) == ("invalidPayload", "ref")


async def test_a_handler_that_ignores_its_cancellation_gets_one_reply(client: Client) -> None:
    answer = await ask(client, type="stubborn", ref="1")
    assert answer["payload"]["code"] == "timeout"
    assert (await ask(client, type="nothing", ref="2"))["ref"] == "2"


async def test_a_handler_that_returns_nothing_against_its_annotation_is_an_error(
    client: Client,
) -> None:
    answer = await ask(client, type="rollOrToss", payload={"sides": 0}, ref="1")
    assert (answer["payload"]["code"], answer["ref"]) == ("internal", "1")


async def test_a_result_that_the_annotation_does_not_name_is_logged(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(client, type="unannotated")
    assert answer == {
        "type": "serverError",
        "payload": {"code": "internal", "error": "This could not be done."},
    }
    assert "Table: a handler returned ServerDiceRolled(value=1), which its" in caplog.text


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (None, (ServerAck,)),
        (ServerDiceRolled, (ServerDiceRolled,)),
        (ServerDiceRolled | None, (ServerDiceRolled, ServerAck)),
        (Optional[ServerDiceRolled], (ServerDiceRolled, ServerAck)),  # noqa: UP045 (the old form)
        (ServerDiceRolled | ServerCoinTossed, (ServerDiceRolled, ServerCoinTossed)),
    ],
)
def test_the_annotation_names_the_replies(annotation: Any, expected: Any) -> None:
    async def handler(self: Any, ws: Any, payload: Any) -> Any: ...

    handler.__annotations__["return"] = annotation
    assert reply_types_of(handler) == expected


@pytest.mark.parametrize("annotation", [int, Message, Any, ServerDiceRolled | int, list[Message]])
def test_any_other_annotation_is_refused_when_the_class_is_registered(annotation: Any) -> None:
    async def handler(self: Any, ws: Any, payload: Any) -> Any: ...

    handler.__annotations__["return"] = annotation
    owner = type("Wrong", (WebSocketResource,), {"say": handles_message("say")(handler)})
    with pytest.raises(RegistrationError, match="a handler returns None, a class derived from"):
        HandlerTable.of(owner)


def test_a_binary_handler_that_returns_a_message_is_refused() -> None:
    class Wrong(WebSocketResource):
        @handles_binary
        async def receive(self, ws: WebSocketLike, data: bytes) -> ServerDiceRolled:
            return ServerDiceRolled(value=len(data))

    with pytest.raises(RegistrationError, match="a binary message has no reply"):
        HandlerTable.of(Wrong)


@given(st.text() | st.binary())
def test_the_request_of_any_text_is_known_or_empty(message: str | bytes) -> None:
    request = request_of(message)
    assert isinstance(request.type, str)
    assert request.ref is msgspec.UNSET or 1 <= len(request.ref) <= MAX_REF_CHARACTERS


def test_the_request_of_a_message_has_its_type_and_ref() -> None:
    assert request_of('{"ref":"1","payload":7,"type":"a"}') == Request("a", "1")
    assert request_of('{"type":"a","ref":{}}') == Request("a")
    assert request_of('{"type":[],"ref":"1"}') == Request("", "1")
    assert request_of('{"ref":"1"}') == Request("", "1")
    assert request_of("[" * 100_000) == request_of(b"{}") == Request()

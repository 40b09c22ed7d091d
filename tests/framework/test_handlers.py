"""The handler table and the decoding of messages."""

import json
from typing import Annotated, Any, Literal

import falcon.asgi
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko import (
    InvalidPayload,
    Limits,
    RegistrationError,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
    install,
)
from falcon_pachinko.handlers import HandlerTable
from falcon_pachinko.testing import run


class Say(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=5)]
    to: list[str] = []


class Nothing(msgspec.Struct):
    pass


class Talk(WebSocketResource):
    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: Say) -> None: ...

    @handles_message("any")
    async def any(self, ws: WebSocketLike, payload: dict) -> None:  # type: ignore[type-arg]
        ...

    @handles_message("bare")
    async def bare(self, ws, payload):  # type: ignore[no-untyped-def]
        ...

    @handles_message("numbers")
    async def numbers(self, ws: WebSocketLike, payload: dict[str, int]) -> None: ...

    @handles_message("nothing")
    async def nothing(self, ws: WebSocketLike, payload: Nothing) -> None: ...


@pytest.fixture
def table() -> HandlerTable:
    return HandlerTable(Talk)


def decode(table: HandlerTable, message: Any) -> Any:
    text = message if isinstance(message, str) else json.dumps(message)
    try:
        envelope = table.decoder.decode(text)
    except (ValueError, RecursionError) as error:
        table.check_payload(text, error)
        return None
    return table.entries[type(envelope)].handler.__name__, envelope.payload


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"type": "say", "payload": {"text": "hi"}}, ("say", Say("hi"))),
        ({"payload": {"text": "hi", "extra": 1}, "type": "say", "id": 7}, ("say", Say("hi"))),
        ({"type": "any", "payload": {"a": [1]}}, ("any", {"a": [1]})),
        ({"type": "any"}, ("any", {})),
        ({"type": "bare"}, ("bare", {})),
        ({"type": "numbers", "payload": {"a": 1}}, ("numbers", {"a": 1})),
        ({"type": "nothing"}, ("nothing", Nothing())),
    ],
)
def test_known_type_is_decoded_for_its_handler(
    table: HandlerTable, message: Any, expected: Any
) -> None:
    assert decode(table, message) == expected


@pytest.mark.parametrize(
    "message",
    [
        {"type": "unknown"},
        {"type": ""},
        {"type": "", "payload": {}},
        {"type": None},
        {"type": ["say"]},
        {"payload": {}},
        {},
        [],
        "say",
        "{",
        '"\\ud800"',
        "NaN",
        "[" * 100_000,
        '{"type": "any", "payload": {"a": ' + "[" * 9999 + "]" * 9999 + "}}",
        '{"type": "on_connect"}',
        '{"type": "__init__"}',
    ],
)
def test_message_without_a_known_type_has_no_handler(table: HandlerTable, message: Any) -> None:
    assert decode(table, message) is None


@pytest.mark.parametrize(
    ("message", "field", "reason"),
    [
        ({"type": "say", "payload": {"text": 5}}, "text", "Expected `str`, got `int`"),
        ({"type": "say", "payload": {"text": ""}}, "text", "Expected `str` of length >= 1"),
        ({"type": "say", "payload": {"text": "x", "to": [1]}}, "to[0]", "Expected `str`"),
        ({"type": "say", "payload": {}}, "", "Object missing required field `text`"),
        ({"type": "say"}, "", "Object missing required field `payload`"),
        ({"type": "say", "payload": None}, "", "Expected `object`, got `null`"),
        ({"type": "any", "payload": []}, "", "Expected `object`, got `array`"),
        ({"type": "numbers", "payload": {"a": "1"}}, "[...]", "Expected `int`, got `str`"),
        ('{"type": "any", "payload": {"a": 1e999}}', "[...]", "Number out of range"),
    ],
)
def test_invalid_payload_error_has_field_and_reason(
    table: HandlerTable, message: Any, field: str, reason: str
) -> None:
    with pytest.raises(InvalidPayload) as caught:
        decode(table, message)
    assert caught.value.field == field
    assert caught.value.reason.startswith(reason)
    assert caught.value.message_type in ("say", "any", "numbers")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)
envelopes = st.fixed_dictionaries(
    {"type": st.sampled_from(["say", "any", "numbers", "other"]), "payload": json_values}
)


@given(st.text() | (json_values | envelopes).map(json.dumps))
def test_any_text_is_decoded_or_rejected(text: str) -> None:
    try:
        found = decode(HandlerTable(Talk), text)
    except InvalidPayload:
        return
    assert found is None or found[0] in Talk.__dict__


def test_class_without_handlers_decodes_no_message() -> None:
    class Silent(WebSocketResource):
        pass

    table = HandlerTable(Silent)
    assert decode(table, {"type": ""}) is None
    assert decode(table, {"type": "say"}) is None


def test_override_keeps_the_registration_of_its_method() -> None:
    class Louder(Talk):
        async def any(self, ws: WebSocketLike, payload: dict) -> None:  # type: ignore[type-arg]
            ...

    assert HandlerTable(Louder).by_type["any"] is Louder.any
    assert Louder.any in [each.handler for each in HandlerTable(Louder).entries.values()]


def test_one_method_can_handle_several_types() -> None:
    class Both(WebSocketResource):
        @handles_message("start")
        @handles_message("stop")
        async def either(self, ws: WebSocketLike, payload: dict[str, Any]) -> None: ...

    assert set(HandlerTable(Both).by_type) == {"start", "stop"}


def test_two_handlers_of_one_type_are_rejected() -> None:
    class Twice(Talk):
        @handles_message("say")
        async def say_too(self, ws: WebSocketLike, payload: Say) -> None: ...

    with pytest.raises(RegistrationError, match=r"say_too and .*say both handle 'say'"):
        HandlerTable(Twice)


def test_two_binary_handlers_are_rejected() -> None:
    class Twice(WebSocketResource):
        @handles_binary
        async def one(self, ws: WebSocketLike, data: bytes) -> None: ...

        @handles_binary
        async def two(self, ws: WebSocketLike, data: bytes) -> None: ...

    with pytest.raises(RegistrationError, match="two binary handlers"):
        HandlerTable(Twice)


def test_handler_has_to_be_a_coroutine_function() -> None:
    class Plain(WebSocketResource):
        @handles_message("say")  # type: ignore[type-var]
        def say(self, ws: WebSocketLike, payload: Say) -> None: ...

    with pytest.raises(RegistrationError, match="write 'async def'"):
        HandlerTable(Plain)


def test_handler_with_a_wrong_signature_is_rejected() -> None:
    class Short(WebSocketResource):
        @handles_message("say")
        async def say(self, ws: WebSocketLike) -> None: ...

    with pytest.raises(RegistrationError, match=r"it takes \(self, ws, payload\)"):
        HandlerTable(Short)


def test_undecodable_payload_annotation_is_rejected() -> None:
    class Odd(WebSocketResource):
        @handles_message("say")
        async def say(self, ws: WebSocketLike, payload: Say | Nothing) -> None: ...

    with pytest.raises(RegistrationError, match="payload annotation cannot be decoded"):
        HandlerTable(Odd)


def test_unresolvable_annotation_is_rejected() -> None:
    class Unknown(WebSocketResource):
        @handles_message("say")
        async def say(self, ws: WebSocketLike, payload: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821
            ...

    with pytest.raises(RegistrationError, match="'Missing' is not defined"):
        HandlerTable(Unknown)


@pytest.mark.parametrize("message_type", ["", None, 5])
def test_handler_needs_a_message_type(message_type: Any) -> None:
    with pytest.raises(RegistrationError, match="name the message type"):
        handles_message(message_type)


@pytest.mark.parametrize("payload", ["", ', "payload": {}', ', "payload": [1]', ', "other": null'])
async def test_a_ping_of_a_client_is_answered_by_the_framework(payload: str) -> None:
    class Nobody(WebSocketResource):
        async def on_unhandled(self, ws: WebSocketLike, message: str | bytes) -> None:
            raise AssertionError(message)

    app = install(falcon.asgi.App())
    app.add_websocket_route("/", Nobody)
    async with run(app, check_contract=True) as running, running.connect("/") as client:
        await client.send_raw('{"type": "clientPing"' + payload + "}")
        assert await client.receive() == {"type": "serverPong", "payload": {}}


def test_a_type_of_the_framework_cannot_have_a_handler() -> None:
    with pytest.raises(RegistrationError, match=r"'clientPing'.*the framework handles this type"):
        handles_message("clientPing")


async def test_pings_count_against_the_rate() -> None:
    class Bounded(WebSocketResource):
        limits = Limits(messages_per_second=0.01, message_burst=2)

    app = install(falcon.asgi.App())
    app.add_websocket_route("/", Bounded)
    async with run(app) as running, running.connect("/") as client:
        for _ in range(3):
            await client.send("clientPing")
        types = [(await client.receive())["type"] for _ in range(3)]
        assert types == ["serverPong", "serverPong", "serverError"]


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    kind: Literal["a", "b"] = "a"


class Checked(WebSocketResource):
    @handles_message("check")
    async def check(self, ws: WebSocketLike, payload: Strict) -> None: ...


@pytest.mark.parametrize(
    "payload",
    [
        {"kind": "x\n\u202e! You are banned - at `$.payload.other` " + "y" * 60_000},
        {"x\n\u202e! You are banned - at `$.payload.other` " + "y" * 60_000: 1},
        {"\u2069\x85 - at `$.payload.x": 1},
    ],
    ids=["a value", "a field", "a path"],
)
def test_a_clients_text_in_a_reason_is_short_and_on_one_line(payload: Any) -> None:
    with pytest.raises(InvalidPayload) as raised:
        decode(HandlerTable(Checked), {"type": "check", "payload": payload})
    for text in (raised.value.reason, raised.value.field):
        assert len(text) <= 202
        assert text.isprintable()

"""Messages and their encoding."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko import Message, Payload, ServerError
from falcon_pachinko.publication import Publication


class Say(msgspec.Struct):
    text: str
    to: list[str] = []


class ServerUserTyping(Message, frozen=True):
    user: str
    is_typing: bool


class Empty(Message, frozen=True):
    pass


class Nested(Message, tag='nested "type"', tag_field="kind", frozen=True):
    first: str
    second: dict[str, Any]


@given(
    text=st.text(st.characters(exclude_categories=["Cs"])),
    inner=st.dictionaries(st.sampled_from(["a", "}", "type"]), st.integers(-5, 5)),
)
def test_envelope_keeps_the_fields_of_a_message(text: str, inner: dict[str, int]) -> None:
    assert json.loads(Publication(Nested(first=text, second=inner)).data) == {
        "type": 'nested "type"',
        "payload": {"first": text, "second": inner},
    }
    assert Publication(Empty()).data == b'{"type":"empty","payload":{}}'


def test_array_like_message_is_rejected() -> None:
    class Row(Message, array_like=True, frozen=True):
        number: int

    with pytest.raises(TypeError, match="Row is array_like"):
        Publication(Row(number=1))


class Renamed(Message, tag="other", frozen=True):
    pass


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (
            ServerUserTyping("Alice", True),
            {"type": "serverUserTyping", "payload": {"user": "Alice", "isTyping": True}},
        ),
        (Renamed(), {"type": "other", "payload": {}}),
        ({"type": "x", "payload": Say("é")}, {"type": "x", "payload": {"text": "é", "to": []}}),
        ([1, None], [1, None]),
        (
            ServerError(code="bad", error="No."),
            {"type": "serverError", "payload": {"code": "bad", "error": "No."}},
        ),
    ],
)
def test_message_is_encoded_in_its_envelope(message: Any, wire: Any) -> None:
    outgoing = Publication(message)
    assert json.loads(outgoing.event["text"]) == wire
    assert outgoing.size_bytes == len(outgoing.event["text"].encode())


def test_message_that_json_cannot_represent_is_rejected() -> None:
    with pytest.raises(TypeError, match="object"):
        Publication({"type": "x", "payload": object()})


class Square(Payload, frozen=True):
    row_number: int


class MoveTo(Payload, frozen=True):
    from_square: Square
    to_squares: list[Square]


class ServerMoved(Message, frozen=True):
    last_move: MoveTo


def test_names_are_camel_case_in_both_directions_nested_ones_too() -> None:
    move = {"fromSquare": {"rowNumber": 1}, "toSquares": [{"rowNumber": 2}]}
    found = msgspec.json.decode(msgspec.json.encode(move), type=MoveTo)
    assert found == MoveTo(from_square=Square(row_number=1), to_squares=[Square(row_number=2)])
    sent = Publication(ServerMoved(last_move=found)).data
    assert msgspec.json.decode(sent) == {"type": "serverMoved", "payload": {"lastMove": move}}


def test_unknown_fields_of_a_payload_are_ignored() -> None:
    assert msgspec.json.decode(b'{"rowNumber":1,"new":2}', type=Square) == Square(row_number=1)

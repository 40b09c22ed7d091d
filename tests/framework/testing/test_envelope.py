"""Encoding and decoding of messages as tests write them."""

from typing import Any

import msgspec
import pytest

from falcon_pachinko import Message
from falcon_pachinko.testing.envelope import (
    PREVIEW_CHARACTERS,
    decode,
    decode_as,
    decode_or_none,
    encode,
    preview,
    type_name_of,
    type_of,
)

from .lobby import Burst, Post, Posted


class Tagged(msgspec.Struct, tag="tagged"):
    text: str


class Typed(msgspec.Struct):
    type: str


@pytest.mark.parametrize(
    ("message", "payload", "text"),
    [
        ("ping", None, '{"type":"ping"}'),
        ("ping", {}, '{"type":"ping","payload":{}}'),
        ("post", Post(text="Hello!"), '{"type":"post","payload":{"text":"Hello!"}}'),
        (Burst(number=1), None, '{"type":"burst","payload":{"number":1}}'),
        (Tagged(text="Hello!"), None, '{"type":"tagged","text":"Hello!"}'),
        (Typed(type="ping"), None, '{"type":"ping"}'),
        ([1, None], None, "[1,null]"),
    ],
)
def test_types_messages_and_other_objects_are_encoded(
    message: object, payload: object, text: str
) -> None:
    assert encode(message, payload) == text


def test_a_struct_or_a_payload_without_a_type_is_rejected() -> None:
    with pytest.raises(TypeError, match="Post has no message type"):
        encode(Post(text="Hello!"))
    with pytest.raises(TypeError, match="needs the name of a message type"):
        encode(Burst(number=1), {"number": 1})


def test_data_that_is_not_json_is_rejected_by_decode_and_none_for_the_check() -> None:
    assert decode(b'{"type":"ping"}') == decode_or_none('{"type":"ping"}') == {"type": "ping"}
    assert decode_or_none("Hello?") is None
    with pytest.raises(AssertionError, match=r"expected JSON, but got 'Hello\?'"):
        decode("Hello?")


def test_a_message_is_decoded_from_its_envelope() -> None:
    data = '{"type":"posted","payload":{"author":"bob","text":"Hello!"},"id":"a:1"}'
    assert decode_as(data, Posted) == Posted(author="bob", text="Hello!")
    assert decode_as(data, dict) == decode(data)
    with pytest.raises(AssertionError, match="expected a message of type 'burst', but got"):
        decode_as(data, Burst)
    with pytest.raises(AssertionError, match=r"that fits Posted, but got .*missing required field"):
        decode_as('{"type":"posted","payload":{"author":"bob"}}', Posted)


@pytest.mark.parametrize(
    ("message", "message_type"),
    [({"type": "ping"}, "ping"), ({"payload": {}}, None), (["ping"], None), (None, None)],
)
def test_the_type_of_a_message_is_optional(message: object, message_type: object) -> None:
    assert type_of(message) == message_type


def test_a_message_class_names_its_type() -> None:
    class Renamed(Message, frozen=True, tag="other"):
        pass

    without_type: Any = Post
    assert [type_name_of(each) for each in ("ping", Burst, Renamed)] == ["ping", "burst", "other"]
    with pytest.raises(TypeError, match="Post has no message type"):
        type_name_of(without_type)


def test_a_preview_of_a_long_message_is_truncated() -> None:
    assert preview("Hello!") == "'Hello!'"
    text = preview("x" * 1_000)
    assert text.endswith("... (length 1000)")
    assert text.count("x") == PREVIEW_CHARACTERS - 1

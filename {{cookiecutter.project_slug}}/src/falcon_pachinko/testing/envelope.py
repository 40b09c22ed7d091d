"""Messages as tests write and expect them: types, payloads and structs instead of JSON."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from ..messages import ENCODER, Message
from ..publication import Publication

T = TypeVar("T")

SHOWN_CHARACTERS = 200


def encode(message: object, payload: object = None) -> str:
    """A message as JSON: a type with or without a payload, a ``Message``, or anything that JSON can hold.

    Raises:
        TypeError: It holds something that JSON cannot, or there is a payload or a struct without a type.
    """
    if isinstance(message, str):
        envelope = {"type": message} if payload is None else {"type": message, "payload": payload}
        return ENCODER.encode(envelope).decode()
    if payload is not None:
        raise TypeError(f"a payload goes with the name of a type, not with {message!r}")
    if isinstance(message, msgspec.Struct) and not has_type(type(message)):
        name = type(message).__name__
        raise TypeError(f'{name} names no type: send a Message, or send("type", {name}(...))')
    return Publication(message).data.decode()


def decode(data: str | bytes) -> Any:
    """What JSON says.

    Raises:
        AssertionError: It is no JSON.
    """
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise AssertionError(
            f"expected JSON, but got {shown(data)} ({error}): receive_raw() takes it as it is"
        ) from None


def decode_as(data: str | bytes, expected: type[T]) -> T:
    """A message as an instance of a class: a ``Message`` from its envelope, anything else from the whole.

    Raises:
        AssertionError: It is something else.
    """
    try:
        if not issubclass(expected, Message):
            return msgspec.json.decode(data, type=expected)
        message = decode(data)
        tag = type_named(expected)
        if type_of(message) != tag:
            raise AssertionError(f"expected a message of type {tag!r}, but got {shown(data)}")
        fields = {**message.get("payload", {}), "type": tag}
        return msgspec.convert(fields, expected, str_keys=True)
    except (ValueError, TypeError, RecursionError) as error:
        raise AssertionError(
            f"expected a message that fits {expected.__name__}, but got {shown(data)} ({error})"
        ) from None


def type_of(message: object) -> object:
    """The type that a message names; ``None`` where it names none."""
    return message.get("type") if isinstance(message, dict) else None


def type_named(expected: str | type[Message]) -> str:
    """The name of a type as it stands on the wire.

    Raises:
        TypeError: The class has none.
    """
    if isinstance(expected, str):
        return expected
    config = getattr(expected, "__struct_config__", None)
    if config is None or config.tag is None:
        name = getattr(expected, "__name__", repr(expected))
        raise TypeError(
            f"{name} names no type: give a Message or the name of the type; "
            f'a payload goes as send("type", struct)'
        )
    return str(config.tag)


def has_type(struct: type[msgspec.Struct]) -> bool:
    """Whether what is sent of a struct names a type, by its tag or by a field."""
    return struct.__struct_config__.tag is not None or "type" in struct.__struct_encode_fields__


def shown(data: str | bytes) -> str:
    """A message for people, cut off where it is long."""
    text = repr(data)
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}... ({len(data)} long)"

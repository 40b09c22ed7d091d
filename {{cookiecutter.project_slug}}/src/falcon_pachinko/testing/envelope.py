"""Encoding and decoding of messages as tests write them: types, payloads and structs."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from ..messages import ENCODER, Message
from ..publication import Publication

T = TypeVar("T")

PREVIEW_CHARACTERS = 200


def encode(message: object, payload: object = None) -> str:
    """Encode a message type with its payload, a ``Message``, or any other object as it is.

    Raises:
        TypeError: JSON cannot represent it, or a payload or a struct has no type.
    """
    if isinstance(message, str):
        envelope = {"type": message} if payload is None else {"type": message, "payload": payload}
        return ENCODER.encode(envelope).decode()
    if payload is not None:
        raise TypeError(f"a payload needs the name of a message type, not {message!r}")
    if isinstance(message, msgspec.Struct) and not has_type(type(message)):
        name = type(message).__name__
        raise TypeError(f'{name} has no message type: send a Message, or send("type", {name}(...))')
    return Publication(message).data.decode()


def decode(data: str | bytes) -> Any:
    """Decode JSON.

    Raises:
        AssertionError: The data is not valid JSON.
    """
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise AssertionError(
            f"expected JSON, but got {preview(data)} ({error}): use receive_raw() for other data"
        ) from None


def decode_or_none(data: str | bytes) -> Any:
    """Decode JSON; return ``None`` for other data."""
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None


def decode_as(data: str | bytes, expected: type[T]) -> T:
    """Decode a message as an instance of a ``Message`` class, or as any other type.

    Raises:
        AssertionError: The message has another type or shape.
    """
    try:
        if not issubclass(expected, Message):
            return msgspec.json.decode(data, type=expected)
        message = decode(data)
        tag = type_name_of(expected)
        if type_of(message) != tag:
            raise AssertionError(f"expected a message of type {tag!r}, but got {preview(data)}")
        fields = {**message.get("payload", {}), "type": tag}
        return msgspec.convert(fields, expected, str_keys=True)
    except (ValueError, TypeError, RecursionError) as error:
        raise AssertionError(
            f"expected a message that fits {expected.__name__}, but got {preview(data)} ({error})"
        ) from None


def type_of(message: object) -> object:
    """Return the type of a decoded message, if it has one."""
    return message.get("type") if isinstance(message, dict) else None


def type_name_of(expected: str | type[Message]) -> str:
    """Return the message type as a client receives it.

    Raises:
        TypeError: The class has no message type.
    """
    if isinstance(expected, str):
        return expected
    config = getattr(expected, "__struct_config__", None)
    if config is None or config.tag is None:
        name = getattr(expected, "__name__", repr(expected))
        raise TypeError(
            f"{name} has no message type: pass a Message or the name of the type; "
            f'a payload is sent with send("type", struct)'
        )
    return str(config.tag)


def has_type(struct: type[msgspec.Struct]) -> bool:
    """Return whether an encoded struct has a ``type``, from its tag or from a field."""
    return struct.__struct_config__.tag is not None or "type" in struct.__struct_encode_fields__


def preview(data: str | bytes) -> str:
    """Return the representation of a message for error texts, truncated."""
    text = repr(data)
    if len(text) <= PREVIEW_CHARACTERS:
        return text
    return f"{text[:PREVIEW_CHARACTERS]}... (length {len(data)})"

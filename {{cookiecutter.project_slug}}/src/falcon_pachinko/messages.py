"""Messages: what goes out, encoded once.

The envelope both ways is ``{"type": "...", "payload": {...}}``. Nothing here waits or knows a socket.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

ENCODER = msgspec.json.Encoder()


def message_type_of(class_name: str) -> str:
    """``ServerNewMessage`` is sent as ``serverNewMessage``."""
    return class_name[:1].lower() + class_name[1:]


class Message(msgspec.Struct, frozen=True, tag_field="type", tag=message_type_of, rename="camel"):
    """Base of typed outgoing messages: the fields are the payload, the class name gives the type.

    ``class ServerUserTyping(Message)`` with ``user: str`` and ``is_typing: bool`` is sent as
    ``{"type": "serverUserTyping", "payload": {"user": "Alice", "isTyping": true}}``.
    ``tag="..."`` in the class's brackets sets another type.
    """


class ServerError(Message, frozen=True):
    """The answer to one message of this client that could not be used; the connection lives on."""

    code: Annotated[
        str,
        msgspec.Meta(
            description="A word for programs: `unknownMessage`, `invalidPayload`, `tooManyMessages`,"
            " or one of a handler's own.",
            examples=["invalidPayload"],
        ),
    ]
    error: Annotated[
        str,
        msgspec.Meta(
            description="A sentence for people.",
            examples=["say has a bad payload in 'text': Expected `str` of length >= 1."],
        ),
    ]
    field: Annotated[
        str | msgspec.UnsetType,
        msgspec.Meta(
            description="Where in the payload, if it is about one place.", examples=["text"]
        ),
    ] = msgspec.UNSET


class ServerPosition(Message, frozen=True):
    """Where a room with history stands, told to who joins it, and where messages may be missing.

    The ``id`` beside ``payload`` is the position. A client that comes back gives the last ``id`` that it
    knows as ``since`` in the URL's query, and is then given what it missed before this message.
    """

    connection: Annotated[
        str,
        msgspec.Meta(
            description="Names this connection. A client that comes back gives it as `connection` in the"
            " URL's query, so that it is not given what it said to the others.",
            examples=["9b2d0f5c31e84d7f6a1b9f03c2e7d815"],
        ),
    ]
    recovered: Annotated[
        bool | msgspec.UnsetType,
        msgspec.Meta(
            description="Whether all that was missed has been sent before this. Where it is `false`, nothing"
            " of it has: fetch the state anew. It is left out on a first visit.",
            examples=[True],
        ),
    ] = msgspec.UNSET


def encode(message: object) -> bytes:
    """Encode a :class:`Message` with its envelope, or any other object as it is.

    Raises:
        TypeError: JSON cannot represent it.
        UnicodeEncodeError: A text in it contains a lone surrogate.
    """
    data = ENCODER.encode(message)
    return enclose(type(message), data) if isinstance(message, Message) else data


envelope_heads: dict[type[Message], tuple[bytes, int]] = {}


def enclose(message_class: type[Message], data: bytes) -> bytes:
    """Make the envelope of an encoded message: its fields follow its type, and shall be the payload."""
    # PERF: msgspec writes {"type":"t","a":1}; to put a brace in is half as dear as to build a dict first.
    known = envelope_heads.get(message_class)
    if known is None:
        known = envelope_heads[message_class] = envelope_head(message_class)
    head, skipped_bytes = known
    return head + (data[skipped_bytes:] or b"}") + b"}"


def envelope_head(message_class: type[Message]) -> tuple[bytes, int]:
    """What stands before the fields in the envelope, and how much stands before them in the struct.

    Raises:
        TypeError: The class is written as an array.
    """
    config = message_class.__struct_config__
    if config.array_like:
        raise TypeError(f"{message_class.__qualname__} is array_like: an envelope needs an object")
    name, tag = ENCODER.encode(config.tag_field), ENCODER.encode(config.tag)
    return b'{"type":' + tag + b',"payload":{', len(name) + len(tag) + len("{:,")


def size_bytes_of(message: str | bytes) -> int:
    """The size of a message on the wire, without its frame's header."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode("utf-8", "surrogatepass"))

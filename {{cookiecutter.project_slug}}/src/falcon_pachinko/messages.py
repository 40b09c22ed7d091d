"""Messages: what goes out, encoded once.

The envelope both ways is ``{"type": "...", "payload": {...}}``. Nothing here waits or knows a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

ENCODER = msgspec.json.Encoder()

# RFC 6455 section 5.2; an EVENT is no frame: the server itself knows what to do with it.
EVENT, TEXT, BINARY = 0x0, 0x1, 0x2


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


class Outgoing:
    """One message on its way out, encoded once for everybody who gets it.

    Attributes:
        size_bytes: How much of a bound it takes.
        frame: The finished WebSocket frame (RFC 6455 section 5.2), once somebody has asked for it.

    Raises:
        TypeError: The message holds something that JSON cannot.
        UnicodeEncodeError: A text in it has half a character (a lone surrogate).
    """

    __slots__ = ("asgi_event", "data", "frame", "opcode", "size_bytes")

    def __init__(self, message: object) -> None:
        data = ENCODER.encode(message)
        if isinstance(message, Message):
            data = enclose(type(message), data)
        # PERF: what fill() does, without the call.
        self.opcode = TEXT
        self.data = data
        self.size_bytes = len(data)
        self.frame: bytes | None = None
        self.asgi_event: Mapping[str, Any] | None = None

    def fill(self, opcode: int, data: bytes) -> None:
        """Set what every message has."""
        self.opcode = opcode
        self.data = data
        self.size_bytes = len(data)
        self.frame = None
        self.asgi_event = None

    @classmethod
    def of(cls, message: object) -> Outgoing:
        """A message that may have been encoded already."""
        return message if isinstance(message, Outgoing) else cls(message)

    @classmethod
    def of_encoded(cls, data: bytes, opcode: int = TEXT) -> Outgoing:
        """What has been encoded already."""
        self = cls.__new__(cls)
        self.fill(opcode, data)
        return self

    @classmethod
    def of_text(cls, text: str) -> Outgoing:
        """A text message that is not JSON, or is JSON already."""
        return cls.of_encoded(text.encode())

    @classmethod
    def of_bytes(cls, data: bytes) -> Outgoing:
        """A binary message."""
        return cls.of_encoded(data, BINARY)

    @classmethod
    def of_event(cls, event: Mapping[str, Any]) -> Outgoing:
        """An ASGI event such as a close, which keeps its place among the messages."""
        self = cls.__new__(cls)
        self.fill(EVENT, b"")
        self.asgi_event = event
        return self

    @property
    def event(self) -> Mapping[str, Any]:
        """The message as an ASGI event."""
        if self.asgi_event is None:
            if self.opcode == TEXT:
                self.asgi_event = {"type": "websocket.send", "text": self.data.decode()}
            else:
                self.asgi_event = {"type": "websocket.send", "bytes": self.data}
        return self.asgi_event

    def make_frame(self) -> bytes:
        """Build the frame: final, not masked, not compressed."""
        first, size = 0x80 | self.opcode, self.size_bytes
        if size < 126:
            header = bytes((first, size))
        elif size < 65_536:
            header = bytes((first, 126)) + size.to_bytes(2, "big")
        else:
            header = bytes((first, 127)) + size.to_bytes(8, "big")
        self.frame = frame = header + self.data
        return frame


def with_id(data: bytes, position: object) -> bytes:
    """An encoded message with its position as ``id``; one that is no JSON object has no place for it."""
    if not data.endswith(b"}"):
        return data
    comma = b"," if len(data) > len(b"{}") else b""
    return b'%b%b"id":"%b"}' % (data[:-1], comma, str(position).encode())


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

"""A publication: one message on its way to clients, encoded once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from .close_codes import check_close_code
from .history import Position, with_id
from .messages import ENCODER, Message
from .presence import MemberChange

# RFC 6455 section 5.2. An EVENT has no frame: it is an ASGI event that the server interprets.
EVENT, TEXT, BINARY = 0x0, 0x1, 0x2


class Header(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    # The encoded names, so that nodes of both versions understand each other during an update.
    rename={"exclude_connections": "without", "exclude_users": "without_users"},
):
    """The recipients of a publication and its kind; by default a text for all members of a room.

    Attributes:
        binary: Send a binary message.
        exclude_connections: Ids of connections that do not receive it.
        exclude_users: Users who do not receive it.
        user: The only user who receives it.
        connection: The id of the only connection that receives it.
        retracts: Positions of earlier messages of the room that are removed from its history with this one.
        close_code: If not zero, close the recipients with this code; the data is the reason.
        traceparent: The span that has published it, where traces are on (W3C Trace Context, section 3.2).
    """

    binary: bool = False
    exclude_connections: tuple[str, ...] = ()
    exclude_users: tuple[str, ...] = ()
    user: str | None = None
    connection: str | None = None
    retracts: tuple[str, ...] = ()
    close_code: int = 0
    traceparent: str | None = None


DEFAULT_HEADER = Header()
# The headers of a numbered message for all members that cannot carry its position, such as a JSON array, and of a
# publication without data in the place of a retracted one.
WITHOUT_ID, RETRACTED = Header(), Header()
# PERF: the start of each message class's envelope, computed once.
ENVELOPE_HEADS: dict[type[Message], tuple[bytes, int]] = {}
ENCODE_HEADER = msgspec.json.Encoder().encode
DECODE_HEADER = msgspec.json.Decoder(Header).decode


class Publication:
    """One message, from the handler to the sockets: encoded once, its frame and its event cached.

    Args:
        message: A :class:`~falcon_pachinko.messages.Message` or any object that JSON can represent.

    Attributes:
        data: The encoded message as it was published.
        body: The payload of the frame: the data, with the position and the time where clients get them.
        opcode: ``TEXT``, ``BINARY`` or ``EVENT``.
        size_bytes: The size of the body, which counts towards the bounds of an outbox.
        frame: The finished WebSocket frame (RFC 6455 section 5.2) once it has been built.
        header: The recipients.
        position: The position in the room; ``None`` for a message without one.
        published_ms: The time of the publication in Unix milliseconds, from the clock that has numbered it.
        shows_position: Whether clients get the position.
        traceparent: That of the header with which another process has encoded it; not set without one.
        variant: The fields, the body and the result of the last :meth:`for_room`; not set before.
        change: How a live message changes the members of a room; ``None`` for most of them.
        compressed: The body and what :func:`.uvicorn.deflate.compressed` has made of it; not set before.

    Raises:
        TypeError: JSON cannot represent the message.
        UnicodeEncodeError: A text in it contains a lone surrogate.
    """

    __slots__ = (
        "asgi_event",
        "body",
        "change",
        "compressed",
        "data",
        "frame",
        "header",
        "opcode",
        "position",
        "published_ms",
        "shows_position",
        "size_bytes",
        "traceparent",
        "variant",
    )
    compressed: tuple[bytes, Publication | None]
    traceparent: str

    def __init__(self, message: object) -> None:
        data = ENCODER.encode(message)
        if isinstance(message, Message):
            # PERF: the struct is encoded as {"type":"t","a":1}; inserting the payload's brace costs half
            #   as much as building a dict first.
            head, skipped = ENVELOPE_HEADS.get(type(message)) or envelope_head(type(message))
            data = head + (data[skipped:] or b"}") + b"}"
        self.opcode = TEXT
        self.data = self.body = data
        self.size_bytes = len(data)
        self.frame: bytes | None = None
        self.asgi_event: Mapping[str, Any] | None = None
        self.header = DEFAULT_HEADER
        self.position: Position | None = None
        self.published_ms: int | None = None
        self.shows_position = False
        self.change: MemberChange | None = None

    @classmethod
    def of_encoded(
        cls, data: bytes, opcode: int = TEXT, header: Header = DEFAULT_HEADER
    ) -> Publication:
        """Make a publication of encoded data."""
        self = cls.__new__(cls)
        self.opcode = opcode
        self.data = self.body = data
        self.size_bytes = len(data)
        self.frame = self.asgi_event = self.change = None
        self.header = header
        self.position = self.published_ms = None
        self.shows_position = False
        return self

    @classmethod
    def of_text(cls, text: str) -> Publication:
        """Make a text message that is sent as it is."""
        return cls.of_encoded(text.encode())

    @classmethod
    def of_bytes(cls, data: bytes) -> Publication:
        """Make a binary message."""
        return cls.of_encoded(data, BINARY)

    @classmethod
    def of_event(cls, event: Mapping[str, Any]) -> Publication:
        """Wrap an ASGI event such as a close, which keeps its place among the messages."""
        self = cls.of_encoded(b"", EVENT)
        self.asgi_event = event
        return self

    @classmethod
    def to_room(
        cls,
        message: object,
        exclude_connections: tuple[str, ...] = (),
        exclude_users: Collection[str] = (),
    ) -> Publication:
        """Make a message for the members of a room.

        Raises:
            TypeError: JSON cannot represent it, or ``exclude_users`` is a text.
        """
        if isinstance(exclude_users, str):
            raise TypeError(f"exclude_users is {exclude_users!r}: give a list of users")
        if isinstance(message, Publication):
            self = cls.of_encoded(message.data, message.opcode)
        else:
            self = cls(message)
        binary = self.opcode == BINARY
        if exclude_connections or exclude_users or binary:
            self.header = Header(
                binary=binary,
                exclude_connections=exclude_connections,
                exclude_users=tuple(exclude_users),
            )
        return self

    @classmethod
    def direct(
        cls, message: object, *, user: str | None = None, connection: str | None = None
    ) -> Publication:
        """Make a message for one user or one connection.

        Raises:
            TypeError: JSON cannot represent it.
        """
        self = cls.to_room(message)
        self.header = msgspec.structs.replace(self.header, user=user, connection=connection)
        return self

    @classmethod
    def close(cls, code: int, reason: str, *, user: str | None = None) -> Publication:
        """Make a command that closes the members of a room, or all connections of one user.

        Raises:
            ValueError: An endpoint may not send the code.
        """
        header = Header(close_code=check_close_code(code), user=user)
        return cls.of_encoded(reason.encode(errors="replace"), header=header)

    @property
    def event(self) -> Mapping[str, Any]:
        """The message as an ASGI event."""
        if self.asgi_event is None:
            if self.opcode == TEXT:
                self.asgi_event = {"type": "websocket.send", "text": self.body.decode()}
            else:
                self.asgi_event = {"type": "websocket.send", "bytes": self.body}
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
        self.frame = frame = header + self.body
        return frame

    def number(self, position: Position, published_ms: int | None = None, *, shown: bool) -> None:
        """Assign the position and the time; if ``shown``, clients get them as ``id`` and ``at``."""
        self.position, self.published_ms = position, published_ms
        self.shows_position = shown
        if shown and self.opcode == TEXT:
            self.body = with_id(self.data, position, published_ms)
            if self.body is self.data and self.header is DEFAULT_HEADER:
                self.header = WITHOUT_ID
            self.size_bytes = len(self.body)
            self.frame = self.asgi_event = None

    def for_room(self, field: bytes) -> Publication:
        """Return the message with the room as another field of its JSON object, for clients in several rooms.

        All clients that know the room by the same name share it. A binary message, and a text that is not an object,
        stay as they are.
        """
        if self.opcode != TEXT or not (self.body[:1] == b"{" and self.body.endswith(b"}")):
            return self
        # PERF: most publications have none, so the constructor does not set it.
        known: tuple[bytes, bytes, Publication] | None = getattr(self, "variant", None)
        if known is not None and known[0] == field and known[1] is self.body:
            return known[2]
        found = self.of_encoded(with_fields(self.body, field))
        self.variant = (field, self.body, found)
        return found

    def encode(self) -> bytes:
        """Encode for another process: the header as JSON (empty for the default), a line feed, the data."""
        is_default = self.header is DEFAULT_HEADER or self.header is WITHOUT_ID
        head = b"" if is_default else ENCODE_HEADER(self.header)
        return head + b"\n" + self.data

    @classmethod
    def decode(cls, encoded: bytes) -> Publication:
        """Decode the result of :meth:`encode`."""
        head, _, data = encoded.partition(b"\n")
        if not head:
            return cls.of_encoded(data)
        header = DECODE_HEADER(head)
        self = cls.of_encoded(data, BINARY if header.binary else TEXT, header)
        if header.traceparent is not None:
            self.traceparent = header.traceparent
            # NOTE: the header of a message for all members is recognised by its identity.
            header = msgspec.structs.replace(header, traceparent=None)
            self.header = DEFAULT_HEADER if header == DEFAULT_HEADER else header
        return self

    def is_for(self, connection_ids: AbstractSet[str], user: str | None) -> bool:
        """Return whether a member of the room receives it, given the ids of its connections, earlier ones included."""
        header = self.header
        is_excluded = not connection_ids.isdisjoint(header.exclude_connections)
        return not is_excluded and user not in header.exclude_users


def envelope_head(message_class: type[Message]) -> tuple[bytes, int]:
    """Return the start of the envelope, up to the payload's brace, and its size in the encoded struct.

    Raises:
        TypeError: The class is encoded as an array.
    """
    config = message_class.__struct_config__
    if config.array_like:
        raise TypeError(f"{message_class.__qualname__} is array_like: an envelope needs an object")
    name, tag = ENCODER.encode(config.tag_field), ENCODER.encode(config.tag)
    head = b'{"type":' + tag + b',"payload":{', len(name) + len(tag) + len("{:,")
    ENVELOPE_HEADS[message_class] = head
    return head


def with_fields(data: bytes, fields: bytes) -> bytes:
    """Add fields to an encoded JSON object."""
    comma = b"," if len(data) > len(b"{}") else b""
    return b"%b%b%b}" % (data[:-1], comma, fields)

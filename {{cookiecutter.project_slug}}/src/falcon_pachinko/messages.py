"""Messages: the base class of typed messages and the messages of the framework.

The envelope in both directions is ``{"type": "...", "payload": {...}}``. A request adds ``ref``, a text of its client's
choice, and its reply has the same one. On a connection that is in several rooms, ``room`` names one of them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

ENCODER = msgspec.json.Encoder()

# SECURITY: a token is passed to the code of the application.
MAX_TOKEN_CHARACTERS = 8 * 1024
# SECURITY: it is sent back.
MAX_REF_CHARACTERS = 64

Ref = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REF_CHARACTERS)]


def message_type_of(class_name: str) -> str:
    """Return the type of a message class: ``serverNewMessage`` for ``ServerNewMessage``."""
    return class_name[:1].lower() + class_name[1:]


class Message(msgspec.Struct, frozen=True, tag_field="type", tag=message_type_of, rename="camel"):
    """Base class of typed outbound messages: the fields are the payload, the class name gives the type.

    ``class ServerUserTyping(Message)`` with ``user: str`` and ``is_typing: bool`` is sent as
    ``{"type": "serverUserTyping", "payload": {"user": "Alice", "isTyping": true}}``.
    ``tag="..."`` in the class's brackets sets another type.
    """


class Payload(msgspec.Struct, frozen=True, rename="camel"):
    """Base class of payloads that handlers get, and of objects within payloads of either direction.

    As in a :class:`Message`, names are camelCase on the wire: ``class MoveTo(Payload)`` with ``row_number: int`` is
    received as ``{"rowNumber": 3}``. Unknown fields are ignored, so that a client of the next version of the service is
    understood during an update.
    """


class ServerError(Message, frozen=True):
    """The reply to a message of this client that could not be handled; the connection stays open."""

    code: Annotated[
        str,
        msgspec.Meta(
            description="An identifier for programs: `unknownMessage`, `invalidPayload`,"
            " `tooManyMessages`, `messageTooLarge`, `forbidden`, `unavailable`, `timeout`, `interrupted`, `internal`,"
            " or one of the application's own.",
            examples=["invalidPayload"],
        ),
    ]
    error: Annotated[
        str,
        msgspec.Meta(
            description="A sentence for the user.",
            examples=["say has an invalid payload in 'text': Expected `str` of length >= 1."],
        ),
    ]
    field: Annotated[
        str | msgspec.UnsetType,
        msgspec.Meta(
            description="The path of the invalid value in the payload, if there is one.",
            examples=["text"],
        ),
    ] = msgspec.UNSET
    close_code: Annotated[
        int | msgspec.UnsetType,
        msgspec.Meta(
            description="The close code with which a room refuses a `clientJoin`, as it would close a connection of"
            " its own.",
            examples=[4403],
        ),
    ] = msgspec.UNSET


class ServerAck(Message, frozen=True):
    """The reply to a message with a `ref` that was handled and has no other reply."""


class ServerPosition(Message, frozen=True):
    """The position of a room with history, sent after a join and wherever messages may be missing, and
    repeated to idle clients.

    The ``id`` beside ``payload`` is the position. A reconnecting client passes the last ``id`` that it
    received as ``since`` in the URL's query; the missed messages are sent before this message. A repeated
    position has no ``connection``: a client whose own last ``id`` is lower has missed messages. Without
    history there is no ``id``.
    """

    connection: Annotated[
        str | msgspec.UnsetType,
        msgspec.Meta(
            description="The id of this connection. A reconnecting client passes it as `connection` in"
            " the URL's query, with those of up to seven earlier connections, so that messages which excluded"
            " them are not sent to it again. Absent in a repeated position.",
            examples=["9b2d0f5c31e84d7f6a1b9f03c2e7d815"],
        ),
    ] = msgspec.UNSET
    recovered: Annotated[
        bool | msgspec.UnsetType,
        msgspec.Meta(
            description="Whether all missed messages have been sent before this one. If it is `false`, some are"
            " missing, though the last ones may have been sent: fetch the state again. Absent on a first visit.",
            examples=[True],
        ),
    ] = msgspec.UNSET
    heartbeat_seconds: Annotated[
        float | msgspec.UnsetType,
        msgspec.Meta(
            description="An idle client receives this message again after this time. If"
            " nothing arrives for more than twice as long, the connection is dead. Absent without heartbeats.",
            examples=[20],
        ),
    ] = msgspec.UNSET
    rooms: Annotated[
        dict[str, list[str]] | msgspec.UnsetType,
        msgspec.Meta(
            description="On a connection that is in several rooms, a repeated position has those of all rooms with"
            " history instead of an `id`.",
            examples=[{"general": ["74f1c09d2be85a36:42"]}],
        ),
    ] = msgspec.UNSET


class ServerJoined(Message, frozen=True):
    """The reply to `clientJoin` for one room: the messages of the room follow, the missed ones first."""


class ServerLeft(Message, frozen=True):
    """The client is no longer in a room, and gets no more messages of it; the connection stays open."""

    code: Annotated[
        int,
        msgspec.Meta(
            description="The close code that a connection of its own would have; 1000 after `clientLeave`.",
            examples=[4403],
        ),
    ]
    reason: Annotated[
        str, msgspec.Meta(description="A sentence for the user, often empty.", examples=[""])
    ]


class ServerPong(Message, frozen=True):
    """The reply to a ping of the client."""


class ServerSessionExpiring(Message, frozen=True):
    """The session of this client ends soon, and its connection with it: refresh it in time."""

    expires_in_seconds: Annotated[
        int, msgspec.Meta(ge=0, description="The time that is left.", examples=[30])
    ]


class ServerSessionRefreshed(Message, frozen=True):
    """The reply to `clientRefreshSession`: the connection goes on."""

    expires_in_seconds: Annotated[
        int | None,
        msgspec.Meta(
            description="The time until the new end; `null` for a session without an end.",
            examples=[3600],
        ),
    ]


class RefreshSession(Payload, frozen=True):
    """The payload of `clientRefreshSession`."""

    token: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=MAX_TOKEN_CHARACTERS,
            description="A new token of the user who has opened the connection.",
            examples=["eyJhbGciOi"],
        ),
    ]


class ClientPing(msgspec.Struct, frozen=True, tag_field="type", tag="clientPing"):
    """Ask for a reply at once, to check the connection. Counts as a message of the client.

    Handled by the framework: it reaches neither a handler nor ``on_unhandled``; an invalid ``ref`` reaches
    ``on_invalid``.
    """

    payload: Any = None
    ref: Ref | msgspec.UnsetType = msgspec.UNSET


# Types of messages that an application can neither handle nor send as its own.
CLIENT_PING = "clientPing"
CLIENT_REFRESH_SESSION = "clientRefreshSession"
CLIENT_REPLY = "clientReply"
CLIENT_JOIN = "clientJoin"
CLIENT_LEAVE = "clientLeave"
RESERVED_CLIENT_TYPES = frozenset(
    {CLIENT_PING, CLIENT_REFRESH_SESSION, CLIENT_REPLY, CLIENT_JOIN, CLIENT_LEAVE}
)


class ReplyPayload(Payload, frozen=True):
    """The payload of `clientReply`: a result, or a code and a sentence if there is none."""

    result: Annotated[
        Any, msgspec.Meta(description="What the server has asked for.", examples=[True])
    ] = None
    code: Annotated[
        str,
        msgspec.Meta(
            max_length=MAX_REF_CHARACTERS,
            description="An identifier for programs if there is no result; empty otherwise.",
        ),
    ] = ""
    error: Annotated[
        str, msgspec.Meta(max_length=1_000, description="The reason, beside a code.")
    ] = ""


class ClientReply(msgspec.Struct, frozen=True, tag_field="type", tag=CLIENT_REPLY):
    """Reply to a request of the server: a message to this client that has a `ref`, which the reply repeats.

    One that is too late has no effect.
    """

    ref: ClassVar[msgspec.UnsetType] = msgspec.UNSET  # It is no request, so it gets no reply.
    request: Ref = msgspec.field(name="ref")
    payload: ReplyPayload = ReplyPayload()


SERVER_MESSAGES: dict[str, type[Message]] = {
    "serverAck": ServerAck,
    "serverError": ServerError,
    "serverJoined": ServerJoined,
    "serverLeft": ServerLeft,
    "serverPosition": ServerPosition,
    "serverPong": ServerPong,
    "serverSessionExpiring": ServerSessionExpiring,
    "serverSessionRefreshed": ServerSessionRefreshed,
}


def size_bytes_of(message: str | bytes) -> int:
    """Return the size of an inbound message on the wire, without its frame's header."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode("utf-8", "surrogatepass"))

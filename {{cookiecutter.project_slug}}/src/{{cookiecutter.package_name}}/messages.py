"""The wire contract: every message that the service understands or sends.

Both ways a message is ``{"type": "...", "payload": {...}}``. The class of a server's message gives
its type, ``ServerNewMessage`` is sent as ``serverNewMessage``, and its fields are the payload.

``asyncapi.yaml`` and the types of the web client are made of what stands here, docstrings and
descriptions too: ``make asyncapi`` writes them, and a test fails where they are out of date.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from falcon_pachinko import Message

RoomName = Annotated[
    str,
    msgspec.Meta(
        description="The room's name, percent-encoded: 1 byte or more of UTF-8 without control"
        " characters. Nobody has to make a room first; it is there while somebody is in it.",
        examples=["general"],
    ),
]
UserName = Annotated[str, msgspec.Meta(description="Who it is.", examples=["Alice"])]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000, examples=["Hello everyone!"])]


class SendMessage(msgspec.Struct, frozen=True):
    """Payload of ``clientSendMessage``: say something to the room."""

    text: Text


class NoPayload(msgspec.Struct, frozen=True):
    """Payload of ``clientStartTyping`` and ``clientStopTyping``: nothing."""


class ServerSystemMessage(Message, frozen=True):
    """The service says something to one user, such as a welcome."""

    text: Annotated[str, msgspec.Meta(examples=["Welcome Bob to room 'general'!"])]


class ServerRoomState(Message, frozen=True):
    """Who is in the room, told to each newcomer."""

    users: Annotated[
        list[str],
        msgspec.Meta(
            description="Each user once; the newcomer comes last.", examples=[["Alice", "Bob"]]
        ),
    ]
    you: Annotated[
        str, msgspec.Meta(description="The newcomer's own name there.", examples=["Bob"])
    ]


class ServerUserJoined(Message, frozen=True):
    """A user has come: the first connection of this user in the room."""

    user: UserName


class ServerUserLeft(Message, frozen=True):
    """A user has gone: the last connection of this user in the room has ended."""

    user: UserName


class ServerNewMessage(Message, frozen=True):
    """A user has said something."""

    user: UserName
    text: Text


class ServerUserTyping(Message, frozen=True):
    """A user has begun or stopped to type."""

    user: UserName
    is_typing: bool


class ServerSystemAnnouncement(Message, frozen=True):
    """The service says something to everybody."""

    text: Annotated[str, msgspec.Meta(examples=["System maintenance is scheduled for 2 AM UTC."])]


# What the chat sends: one that is missing here fails a test by its name.
SERVER_MESSAGES = (
    ServerSystemMessage,
    ServerRoomState,
    ServerUserJoined,
    ServerUserLeft,
    ServerNewMessage,
    ServerUserTyping,
    ServerSystemAnnouncement,
)

# Why the chat closes a connection, besides the framework's own reasons.
BAD_ROOM_NAME = 4400
NOT_SIGNED_IN = 4401
CLOSE_CODES = {
    BAD_ROOM_NAME: "no room can have this name",
    NOT_SIGNED_IN: "the user is not signed in",
}

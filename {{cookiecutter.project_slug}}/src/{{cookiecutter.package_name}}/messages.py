"""The wire contract: every message that the service receives or sends.

In both directions a message is ``{"type": "...", "payload": {...}}``. The class of a server message
determines its type (``ServerNewMessage`` is sent as ``serverNewMessage``), its fields are the payload.

``asyncapi.yaml`` and the types of the web client are generated from this module, including docstrings
and descriptions. ``make asyncapi`` writes them; a test fails if they are out of date.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from falcon_pachinko import Message, Payload

RoomName = Annotated[
    str,
    msgspec.Meta(
        description="The room's name, percent-encoded: at least 1 byte of UTF-8 in normalization form C,"
        " without control, format and private-use characters and without blanks at its ends, and not '.'"
        " or '..'. A room needs no creation; it exists while a client is in it.",
        examples=["general"],
    ),
]
# The most users in a list. A room with more of them is large: its joins and leaves are sent in batches.
MAX_USERS = 200
# The most messages in a page of the past.
HISTORY_PAGE = 50

UserName = Annotated[
    str,
    msgspec.Meta(
        description="The user's name, for display. Several users may have the same one.",
        examples=["Alice"],
    ),
]
UserId = Annotated[
    str,
    msgspec.Meta(description="The user's id, by which users differ.", examples=["auth0|5f7c8ec7"]),
]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000, examples=["Hello everyone!"])]

MessageId = Annotated[
    str,
    msgspec.Meta(
        description="The id of a stored message, unique in all rooms. The ids of a room have the order of its"
        " messages. Absent if the service stores no messages.",
        examples=["0199c0a1b2c37f6e5d4c3b2a1908"],
    ),
]


class SendMessage(Payload, frozen=True):
    """Payload of ``clientSendMessage``: a text for the room."""

    text: Text


class LoadHistory(Payload, frozen=True):
    """Payload of ``clientLoadHistory``: the last messages of the room, or the last ones before another message."""

    before: MessageId | msgspec.UnsetType = msgspec.UNSET


class NoPayload(Payload, frozen=True):
    """Payload of ``clientStartTyping`` and ``clientStopTyping``: empty."""


class ServerSystemMessage(Message, frozen=True):
    """A message from the service to one user, such as a welcome."""

    text: Annotated[str, msgspec.Meta(examples=["Welcome Bob to room 'general'!"])]


class RoomUser(Payload, frozen=True):
    """A user in a room."""

    user: UserName
    user_id: UserId


class ServerRoomState(Message, frozen=True):
    """The users in the room, sent to each joining client."""

    users: Annotated[
        list[RoomUser],
        msgspec.Meta(
            max_length=MAX_USERS,
            description="Each user once, in the order in which they joined; the joining user is last.",
        ),
    ]
    you: Annotated[RoomUser, msgspec.Meta(description="The joining user.")]
    count: Annotated[
        int,
        msgspec.Meta(
            description="The number of users in the room, including the joining user.",
            examples=[312],
        ),
    ]
    truncated: Annotated[
        bool | msgspec.UnsetType,
        msgspec.Meta(
            description="`true` if there are more users than `users` lists; absent otherwise."
            " `serverPresenceChanged` may then announce joins and leaves.",
            examples=[True],
        ),
    ] = msgspec.UNSET


class ServerUserJoined(Message, frozen=True):
    """A user has joined: the user's first connection to the room is open."""

    user: UserName
    user_id: UserId


class ServerUserLeft(Message, frozen=True):
    """A user has left: the user's last connection to the room has ended."""

    user: UserName
    user_id: UserId


class ServerNewMessage(Message, frozen=True):
    """A user has sent a message to the room."""

    user: UserName
    user_id: UserId
    text: Text
    message_id: MessageId | msgspec.UnsetType = msgspec.UNSET


class PastMessage(Payload, frozen=True):
    """A message that was sent earlier."""

    message_id: MessageId
    user: UserName
    user_id: UserId
    text: Text
    at: Annotated[
        int,
        msgspec.Meta(
            description="When it was sent, in Unix milliseconds.", examples=[1_732_700_000_000]
        ),
    ]


class ServerHistory(Message, frozen=True):
    """A page of the room's stored messages, the oldest first."""

    messages: Annotated[list[PastMessage], msgspec.Meta(max_length=HISTORY_PAGE)]
    has_more: Annotated[
        bool, msgspec.Meta(description="Whether there are earlier messages.", examples=[False])
    ]


class ServerUserTyping(Message, frozen=True):
    """A user has started or stopped typing."""

    user: UserName
    user_id: UserId
    is_typing: bool


class ServerSystemAnnouncement(Message, frozen=True):
    """An announcement from the service to all rooms."""

    text: Annotated[str, msgspec.Meta(examples=["System maintenance is scheduled for 2 AM UTC."])]


# What the chat sends. A test that receives a message missing here fails with its type.
SERVER_MESSAGES = (
    ServerSystemMessage,
    ServerRoomState,
    ServerUserJoined,
    ServerUserLeft,
    ServerNewMessage,
    ServerHistory,
    ServerUserTyping,
    ServerSystemAnnouncement,
)

# Close codes of the chat, in addition to the framework's.
BAD_ROOM_NAME = 4400
NOT_SIGNED_IN = 4401
CLOSE_CODES = {
    BAD_ROOM_NAME: "the room name is invalid",
    NOT_SIGNED_IN: "the user is not signed in",
}

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

from .message_fields import (
    Emoji,
    KnownMessageId,
    MessageId,
    Quoted,
    Reaction,
    Revision,
    Text,
    UserId,
    UserName,
)

# The most users in a list. A room with more of them is large: its joins and leaves are sent in batches.
MAX_USERS = 200
# The most messages in a page of the past.
HISTORY_PAGE = 50


class SendMessage(Payload, frozen=True):
    """Payload of ``clientSendMessage``: a text for the room."""

    text: Text


class LoadHistory(Payload, frozen=True):
    """Payload of ``clientLoadHistory``: the last messages of the room, or the last ones before another message."""

    before: MessageId | msgspec.UnsetType = msgspec.UNSET


class EditMessage(Payload, frozen=True):
    """Payload of ``clientEditMessage``: another text for a message of this user."""

    message_id: KnownMessageId
    text: Text


class DeleteMessage(Payload, frozen=True):
    """Payload of ``clientDeleteMessage``: a message of this user, or of any user for moderators."""

    message_id: KnownMessageId


class SendReply(Payload, frozen=True):
    """Payload of ``clientSendReply``: a text for the room that replies to a message."""

    message_id: KnownMessageId
    text: Text


class React(Payload, frozen=True):
    """Payload of ``clientReact``: add a reaction of this user to a message, or take it back."""

    message_id: KnownMessageId
    reaction: Emoji
    on: Annotated[bool, msgspec.Meta(description="`false` to take it back.", examples=[True])]


class MarkRead(Payload, frozen=True):
    """Payload of ``clientMarkRead``: this user has read the room up to a message."""

    message_id: KnownMessageId


class NoPayload(Payload, frozen=True):
    """Payload of ``clientStartTyping``, ``clientStopTyping`` and ``clientLoadRooms``: empty."""


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
    reply_to: Quoted | msgspec.UnsetType = msgspec.UNSET


class ServerMessageEdited(Message, frozen=True):
    """A message of the room has another text."""

    message_id: MessageId
    text: Text
    revision: Revision


class ServerMessageDeleted(Message, frozen=True):
    """A message of the room has been deleted."""

    message_id: MessageId
    revision: Revision


class ServerReaction(Message, frozen=True):
    """A user has reacted to a message of the room, or taken a reaction back."""

    message_id: MessageId
    reaction: Emoji
    user: UserName
    user_id: UserId
    on: Annotated[bool, msgspec.Meta(description="`false` if it was taken back.", examples=[True])]
    count: Annotated[
        int, msgspec.Meta(description="The users who react like this now.", examples=[3])
    ]
    revision: Revision


class ServerReadMarker(Message, frozen=True):
    """This user has read a room up to a message, in this window or in another one."""

    room: Annotated[str, msgspec.Meta(description="The room's name.", examples=["general"])]
    message_id: MessageId


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
    revision: Revision
    edited: Annotated[
        bool, msgspec.Meta(description="Whether its text was changed.", examples=[False])
    ]
    reply_to: Quoted | msgspec.UnsetType = msgspec.UNSET
    reactions: Annotated[
        list[Reaction], msgspec.Meta(description="In the order of their numbers.")
    ] = msgspec.field(default_factory=list)


class ServerHistory(Message, frozen=True):
    """A page of the room's stored messages, the oldest first."""

    messages: Annotated[list[PastMessage], msgspec.Meta(max_length=HISTORY_PAGE)]
    has_more: Annotated[
        bool, msgspec.Meta(description="Whether there are earlier messages.", examples=[False])
    ]
    read_to: Annotated[
        str | None,
        msgspec.Meta(
            description="The id of the message up to which this user has read the room; `null` if that is not known.",
            examples=["0199c0a1b2c37f6e5d4c3b2a1908"],
        ),
    ] = None


class KnownRoom(Payload, frozen=True):
    """A room of the service."""

    room: Annotated[str, msgspec.Meta(description="Its name.", examples=["general"])]
    users: Annotated[int, msgspec.Meta(description="The users in it now.", examples=[3])]
    unread: Annotated[
        int,
        msgspec.Meta(
            description="The messages that this user has not read, 100 for more; 0 in a room that this user has never"
            " read.",
            examples=[0],
        ),
    ]


class ServerRooms(Message, frozen=True):
    """Rooms that this user may join: those with users in them, and those that this user has read."""

    rooms: list[KnownRoom]


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
    ServerMessageEdited,
    ServerMessageDeleted,
    ServerReaction,
    ServerReadMarker,
    ServerHistory,
    ServerRooms,
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

"""The values in messages, with their bounds and descriptions for the contract."""

from __future__ import annotations

from typing import Annotated

import msgspec

from falcon_pachinko import Payload

RoomName = Annotated[
    str,
    msgspec.Meta(
        description="The room's name, percent-encoded: at least 1 byte of UTF-8 in normalization form C,"
        " without control, format and private-use characters and without blanks at its ends, and not '.'"
        " or '..'. A room needs no creation; it exists while a client is in it.",
        examples=["general"],
    ),
]
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
KnownMessageId = Annotated[
    str,
    msgspec.Meta(
        pattern="^[0-9a-f]{28}$",
        description="The id of a stored message of the room.",
        examples=["0199c0a1b2c37f6e5d4c3b2a1908"],
    ),
]
Revision = Annotated[
    int,
    msgspec.Meta(
        description="The number of changes of the message so far. Changes may arrive in another order, or twice: apply"
        " one only if its revision is higher than that of the change or of the page before it.",
        examples=[1],
    ),
]
Emoji = Annotated[
    str, msgspec.Meta(min_length=1, max_length=16, description="One emoji.", examples=["👍"])
]


class Quoted(Payload, frozen=True):
    """The message to which another one replies."""

    message_id: MessageId
    user: UserName
    user_id: UserId
    text: Annotated[
        str | msgspec.UnsetType,
        msgspec.Meta(
            description="The beginning of its text. Only in a page of the past: a live message goes into caches, where"
            " the text could not be deleted with the message itself.",
            examples=["Hello everyone!"],
        ),
    ] = msgspec.UNSET


class Reaction(Payload, frozen=True):
    """The users who react to a message with one emoji."""

    reaction: Emoji
    count: Annotated[int, msgspec.Meta(description="Their number.", examples=[3])]
    mine: Annotated[
        bool, msgspec.Meta(description="Whether this user is one of them.", examples=[False])
    ]

"""The wire contract: every message that the service understands or sends.

Both ways a message is ``{"type": "...", "payload": {...}}``. The class of a server's message gives
its type, ``ServerNewMessage`` is sent as ``serverNewMessage``, and its fields are the payload.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from falcon_pachinko import Message

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class SendMessage(msgspec.Struct, frozen=True):
    """Payload of ``clientSendMessage``: say something to the room."""

    text: Text


class NoPayload(msgspec.Struct, frozen=True):
    """Payload of ``clientStartTyping`` and ``clientStopTyping``: nothing."""


class ServerSystemMessage(Message, frozen=True):
    """The service says something to one user."""

    text: str


class ServerRoomState(Message, frozen=True):
    """Who is in the room and who the newcomer is there, told to each newcomer."""

    users: list[str]
    you: str


class ServerUserJoined(Message, frozen=True):
    """A user has come: the first connection of this user in the room."""

    user: str


class ServerUserLeft(Message, frozen=True):
    """A user has gone: the last connection of this user in the room has ended."""

    user: str


class ServerNewMessage(Message, frozen=True):
    """A user has said something."""

    user: str
    text: str


class ServerUserTyping(Message, frozen=True):
    """A user has begun or stopped to type."""

    user: str
    is_typing: bool


class ServerSystemAnnouncement(Message, frozen=True):
    """The service says something to everybody."""

    text: str

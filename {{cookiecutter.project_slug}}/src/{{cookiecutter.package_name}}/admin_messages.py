"""The messages on the admin socket: one request per connection, then lines of answers."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from falcon_pachinko.backends.restriction_entry import Restriction
from falcon_pachinko.rooms.inspection import Snapshot
from falcon_pachinko.rooms.tail import TailedMessage

MAX_REQUEST_BYTES = 65_536
# 1,000 rooms and 1,000 connections with 10 rooms each, whose names have at most 200 bytes.
MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_TAIL_SECONDS = 60.0
MAX_TAIL_MESSAGES = 1_000


class Request(msgspec.Struct, frozen=True, tag_field="command", forbid_unknown_fields=True):
    """A request of the operator."""


class Inspect(Request, frozen=True, tag="inspect"):
    """Describe the process, or only what belongs to one user."""

    user: str | None = None


class TailRequest(Request, frozen=True, tag="tail"):
    """Show the messages to a room or, without one, to a user."""

    seconds: Annotated[float, Meta(gt=0, le=MAX_TAIL_SECONDS)]
    room: str | None = None
    user: str | None = None


class Announce(Request, frozen=True, tag="announce"):
    """Send an announcement to all rooms."""

    text: str


class Disconnect(Request, frozen=True, tag="disconnect"):
    """Close the connections of a user."""

    user: str


class Restrict(Request, frozen=True, tag="restrict"):
    """Ban or mute a user, or end that; the name of the room has its prefix."""

    change: Literal["ban", "mute", "unban", "unmute"]
    user: str
    room: str | None = None
    seconds: float = 0.0


class ListRestrictions(Request, frozen=True, tag="restrictions"):
    """List bans and mutes."""


Action = Announce | Disconnect | Restrict
AnyRequest = Inspect | TailRequest | Action | ListRestrictions


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the answer; each has one of these, the last one of a tail ``end``.

    Attributes:
        error: The reason why the request was not carried out.
        rooms: The number of rooms that an announcement has reached.
        snapshot: The state of the process.
        message: A message of a tail.
        restrictions: The bans and mutes.
        done: Whether the request was carried out.
        end: The number of messages that a tail has lost.
    """

    error: str | None = None
    rooms: int | None = None
    snapshot: Snapshot | None = None
    message: TailedMessage | None = None
    restrictions: list[Restriction] | None = None
    done: bool = False
    end: int | None = None

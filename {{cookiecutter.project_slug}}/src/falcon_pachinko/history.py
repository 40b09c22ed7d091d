"""The history of a room: how much of it is kept, and positions in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from .errors import RegistrationError

# Longer than any position that a server sends; a client's longer text is not parsed.
MAX_POSITION_CHARACTERS = 64
# The most messages that one call removes from a history: it blocks Redis for a few milliseconds.
MAX_RETRACTED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How much of a room's messages is kept for reconnecting clients.

    Attributes:
        messages: The maximum number of messages.
        seconds: The maximum age of a message.
        room_bytes: The maximum size of a room's messages, encoded; above it the oldest are dropped. A larger
            message is delivered and not kept.

    Raises:
        RegistrationError: A value is not a finite number above zero.
    """

    messages: int = 100
    seconds: float = 300.0
    room_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("messages", "seconds", "room_bytes"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise RegistrationError(f"{name} is {value!r}: it must be a number above zero")


class Position(NamedTuple):
    """A position in a room's history, ``epoch:offset`` on the wire.

    Attributes:
        epoch: The name of one uninterrupted numbering. A backend that has lost its data begins a new epoch.
        offset: The number of the message: 1 for the first one, without gaps.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    def includes(self, other: Position) -> bool:
        """Return whether a position of the same numbering is this one or an earlier one."""
        return other.epoch == self.epoch and other.offset <= self.offset

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Parse a client's text; return ``None`` if it is not a position."""
        epoch, _, offset = text.partition(":")
        # SECURITY: int() of a long text is slow (CVE-2020-10735).
        fits = len(text) <= MAX_POSITION_CHARACTERS
        if not (epoch and fits and offset.isascii() and offset.isdecimal()):
            return None
        return cls(epoch, int(offset))


class PastMessage(NamedTuple):
    """A message in a room's history.

    Attributes:
        position: Its position.
        published_ms: The time of its publication in Unix milliseconds, from the clock that numbers the room.
        data: The message as clients have received it: JSON, with ``id`` and ``at``.
    """

    position: Position
    published_ms: int
    data: bytes

    def decode(self) -> Any:
        """Return the message as Python objects."""
        return msgspec.json.decode(self.data)


def last_known(current: Position | None, since: Sequence[Position]) -> Position | None:
    """Return the first of a client's positions that is in the room's current epoch, if any."""
    if current is None:
        return None
    return next((position for position in since if position.epoch == current.epoch), None)


def with_id(data: bytes, position: Position, published_ms: int | None) -> bytes:
    """Add a position as ``id``, and a time as ``at``, to an encoded JSON object; other JSON values stay as they are."""
    if not data.endswith(b"}"):
        return data
    comma = b"," if len(data) > len(b"{}") else b""
    name = b"%b:%d" % (position.epoch.encode(), position.offset)
    if published_ms is None:
        return b'%b%b"id":"%b"}' % (data[:-1], comma, name)
    return b'%b%b"id":"%b","at":%d}' % (data[:-1], comma, name, published_ms)

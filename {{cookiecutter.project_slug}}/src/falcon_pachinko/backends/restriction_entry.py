"""An entry of the map of restrictions: a ban, a mute or revoked sessions, with a version and an end."""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

BAN, MUTE = "ban", "mute"
SESSION, SESSIONS = "session", "sessions"
KINDS = frozenset({BAN, MUTE, SESSION, SESSIONS})

# The maximum number of entries of a cluster; each takes 0.3 KiB in each process, 120 bytes in Redis
# (measured).
MAX_RESTRICTIONS = 100_000
# The number of entries above which no session is revoked: any user can sign out again and again, and bans keep a reserve.
MAX_WITH_REVOCATIONS = 80_000
# 100 years: the end is a date with four digits, and the milliseconds are exact as a float of Lua.
MAX_RESTRICTION_SECONDS = 100 * 365.25 * 86_400

# How long the removal of an unknown entry is kept.
UNKNOWN_REMOVAL_MS = 86_400_000

# Entries are kept for this time after their end, so that processes whose clocks differ a little do not exchange them;
# and a revocation is in force for this time after the end of the last token.
CLOCK_MARGIN_MS = 60_000


class Restriction(NamedTuple):
    """A ban or a mute that is in force.

    Attributes:
        kind: ``"ban"`` or ``"mute"``.
        user: The user.
        room: The room; ``None`` for all rooms and the connection itself.
        until: The end, in Unix seconds.
    """

    kind: str
    user: str
    room: str | None
    until: float


class RestrictionChange(NamedTuple):
    """A change of an entry.

    Attributes:
        kind: One of :data:`KINDS`.
        subject: The user or, for :data:`SESSION`, the session.
        room: The room; empty for all.
        until: The end, in Unix milliseconds; 0 removes the entry.
        issued_until: For :data:`SESSIONS`, the sessions whose user has signed in until this time are revoked, in
            Unix milliseconds; otherwise 0.
    """

    kind: str
    subject: str
    room: str = ""
    until: int = 0
    issued_until: int = 0

    @property
    def field(self) -> str:
        """The name of the entry."""
        return f"{self.kind}\n{self.subject}\n{self.room}"

    @property
    def extends(self) -> bool:
        """Whether the entry never ends earlier than before: a revocation is not shortened."""
        return self.kind in (SESSION, SESSIONS)

    def apply(self, known: RestrictionEntry | None, now: int) -> RestrictionEntry:
        """Return the entry after the change; the script of Redis does the same.

        Args:
            known: The entry before.
            now: The time in Unix milliseconds.
        """
        version, until, issued_until = now, self.until, self.issued_until
        kept_until = until or now + UNKNOWN_REMOVAL_MS
        if known is not None:
            version = max(version, known.version + 1)
            kept_until = max(until, known.kept_until)
            if self.extends:
                until, issued_until = (
                    max(until, known.until),
                    max(issued_until, known.issued_until),
                )
        return RestrictionEntry(self.field, version, until, kept_until, issued_until)


class RestrictionEntry(NamedTuple):
    """An entry of the map.

    Attributes:
        field: Its name: the kind, the user or session, and the room, each after a line feed.
        version: The time of the last change, in milliseconds; higher than any earlier one of this entry.
        until: The end, in Unix milliseconds; 0 for a removed entry.
        kept_until: The time until which an entry of an earlier version may have an effect, in Unix milliseconds.
        issued_until: See :class:`RestrictionChange`.
    """

    field: str
    version: int
    until: int
    kept_until: int
    issued_until: int

    @classmethod
    def decode(cls, field: str, value: str) -> RestrictionEntry:
        """Decode an entry from Redis.

        Raises:
            ValueError: It is not an entry.
        """
        version, until, kept_until, issued_until = value.split(" ")
        kind, _, _ = field.split("\n")
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not a kind of restriction")
        return cls(field, int(version), int(until), int(kept_until), int(issued_until))

    @property
    def value(self) -> str:
        """The entry without its name, as Redis has it."""
        return f"{self.version} {self.until} {self.kept_until} {self.issued_until}"

    @property
    def parts(self) -> tuple[str, str, str]:
        """The kind, the user or session, and the room."""
        kind, subject, room = self.field.split("\n")
        return kind, subject, room

    @property
    def hash(self) -> int:
        """A number of 40 bits, so that the sum of all fits into Redis's 64."""
        data = f"{self.field}\n{self.value}".encode()
        return int(hashlib.sha1(data, usedforsecurity=False).hexdigest()[:10], 16)

    def revokes(self, signed_in_at: float) -> bool:
        """Return whether an entry of :data:`SESSIONS` concerns a session that began then, in Unix seconds."""
        return signed_in_at * 1000 <= self.issued_until

    def replaces(self, other: RestrictionEntry | None) -> bool:
        """Return whether this is the later entry; of two with one version, all processes choose the same."""
        if other is None or self.version != other.version:
            return other is None or self.version > other.version
        # PERF: when Redis is compared with a node, most entries are equal.
        return self != other and self.hash > other.hash


def end_of(seconds: float, now: float) -> int:
    """Return the end of a time that begins now, in Unix milliseconds.

    Raises:
        ValueError: It is not above zero, or above :data:`MAX_RESTRICTION_SECONDS`.
    """
    is_number = isinstance(seconds, (int, float)) and math.isfinite(seconds)
    if not is_number or not 0 < seconds <= MAX_RESTRICTION_SECONDS:
        raise ValueError(
            f"seconds is {seconds!r}: it must be above zero, and at most {MAX_RESTRICTION_SECONDS:.0f} (100 years)"
        )
    return math.ceil((now + seconds) * 1000)

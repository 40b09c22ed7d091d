"""The restrictions that a process knows: plain code without await."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from ..errors import BackendUnavailable
from .restriction_entry import (
    BAN,
    CLOCK_MARGIN_MS,
    MUTE,
    SESSION,
    SESSIONS,
    Restriction,
    RestrictionChange,
    RestrictionEntry,
)


class RestrictionTable:
    """The map of restrictions, with checks that are lookups in a dict. False without any entry.

    Attributes:
        entries: The entries by name, those included that have ended or were removed and are still kept.
        digest: The sum of the hashes of all entries.
        is_known: Whether this process has ever learnt the restrictions of the others.
    """

    def __init__(self) -> None:
        self.entries: dict[str, RestrictionEntry] = {}
        self.digest = 0
        self.is_known = True
        self.purge_at: float = math.inf

    def __bool__(self) -> bool:
        return bool(self.entries)

    @property
    def now(self) -> int:
        """The clock, in Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def check_known(self) -> None:
        """Refuse a check that concerns a user before the restrictions have been read for the first time.

        Raises:
            BackendUnavailable: They are not known.
        """
        if not self.is_known:
            raise BackendUnavailable("the restrictions have not been read since the start")

    def put(self, entry: RestrictionEntry) -> bool:
        """Store an entry unless it is older than the known one; return whether it was stored."""
        known = self.entries.get(entry.field)
        if not entry.replaces(known):
            return False
        if known is not None:
            self.digest -= known.hash
        self.entries[entry.field] = entry
        self.digest += entry.hash
        self.purge_at = min(self.purge_at, entry.kept_until + CLOCK_MARGIN_MS)
        return True

    def purge(self) -> list[RestrictionEntry]:
        """Remove the entries that have no effect any more, and return them."""
        if self.purge_at > self.now:
            return []
        old = [entry for entry in self.entries.values() if self.is_over(entry)]
        for entry in old:
            del self.entries[entry.field]
            self.digest -= entry.hash
        ends = (entry.kept_until for entry in self.entries.values())
        self.purge_at = min(ends, default=math.inf) + CLOCK_MARGIN_MS
        return old

    def is_over(self, entry: RestrictionEntry) -> bool:
        """Return whether an entry, and any earlier version of it, has no effect any more."""
        return entry.kept_until + CLOCK_MARGIN_MS <= self.now

    def is_in_force(self, entry: RestrictionEntry) -> bool:
        """Return whether an entry has an effect now."""
        return entry.until > self.now

    # Checks: each returns the end in Unix seconds, or 0. Nobody has no restriction, nor has a missing session.

    def banned_until(self, user: str | None, room: str = "") -> float:
        """Return when a user's ban from a room ends, or from all rooms for the empty name."""
        return 0.0 if user is None else self._until(f"{BAN}\n{user}\n{room}")

    def muted_until(self, user: str | None, rooms: Iterable[str] = ()) -> float:
        """Return when the last mute of a user ends: everywhere, or in one of some rooms."""
        if user is None:
            return 0.0
        ends = [self._until(f"{MUTE}\n{user}\n{room}") for room in ("", *rooms)]
        return max(ends)

    def _until(self, field: str) -> float:
        entry = self.entries.get(field)
        return entry.until / 1000 if entry is not None and self.is_in_force(entry) else 0.0

    def is_revoked(self, session: str | None, user: str | None, signed_in_at: float) -> bool:
        """Return whether a session is revoked: by its id, or with the sessions of its user.

        Args:
            session: The id of the session.
            user: The id of its user.
            signed_in_at: The time of the sign-in, in Unix seconds.
        """
        if session is not None and self._until(f"{SESSION}\n{session}\n") > 0:
            return True
        if user is None:
            return False
        entry = self.entries.get(f"{SESSIONS}\n{user}\n")
        return entry is not None and self.is_in_force(entry) and entry.revokes(signed_in_at)

    def list(self) -> list[Restriction]:
        """Return the bans and mutes in force, sorted by user."""
        return listed(entry for entry in self.entries.values() if self.is_in_force(entry))

    def change(self, change: RestrictionChange) -> RestrictionEntry:
        """Return the entry that a change makes of the known one, for a process without others."""
        return change.apply(self.entries.get(change.field), self.now)


def listed(entries: Iterable[RestrictionEntry]) -> list[Restriction]:
    """Return the bans and mutes among entries, sorted by user, kind and room."""
    found = []
    for entry in entries:
        kind, user, room = entry.parts
        if kind in (BAN, MUTE):
            found.append(Restriction(kind, user, room or None, entry.until / 1000))
    return sorted(found, key=lambda each: (each.user, each.kind, each.room or ""))

"""The last of what was said in a room, for those who come back."""

from __future__ import annotations

from collections import deque
from itertools import islice

from ..history import History, Position
from ..publication import Publication


class Tail:
    """The entries of a room without a gap, the newest last, as many and as old as its history lets them be.

    Args:
        history: The bounds.
    """

    __slots__ = ("entries", "history")

    def __init__(self, history: History) -> None:
        self.history = history
        self.entries: deque[tuple[float, Publication]] = deque(maxlen=history.messages)

    def add(self, entry: Publication, said_at: float) -> None:
        """Add the next one.

        Args:
            entry: What was said.
            said_at: When, on a clock that never goes back, in seconds.
        """
        self.entries.append((said_at, entry))

    def between(self, since: Position, now: Position, clock: float) -> list[Publication] | None:
        """What followed one place up to another; ``None`` where that is not here as a whole, or too old.

        Args:
            since: A place of the same epoch, not behind ``now``.
            now: Where the room stands.
            clock: The time.
        """
        count = now.offset - since.offset
        if not 0 <= count <= len(self.entries):
            return None
        chosen = list(islice(self.entries, len(self.entries) - count, None))
        if not chosen:
            return []
        ends = (Position(since.epoch, since.offset + 1), now)
        if (chosen[0][1].position, chosen[-1][1].position) != ends:
            return None
        if chosen[0][0] < clock - self.history.seconds:
            return None
        return [entry for _, entry in chosen]

    def forget_old(self, now: float) -> None:
        """Drop what is too old for anybody."""
        while self.entries and self.entries[0][0] < now - self.history.seconds:
            self.entries.popleft()

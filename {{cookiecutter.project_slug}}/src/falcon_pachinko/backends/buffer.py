"""The most recent publications of a room, for reconnecting clients."""

from __future__ import annotations

from collections import deque
from itertools import islice

from ..history import History, Position
from ..publication import Publication


class HistoryBuffer:
    """Consecutive publications of a room, the newest last, within the bounds of its history.

    Args:
        history: The bounds.
    """

    __slots__ = ("history", "publications")

    def __init__(self, history: History) -> None:
        self.history = history
        self.publications: deque[tuple[float, Publication]] = deque(maxlen=history.messages)

    def add(self, publication: Publication, published_at: float) -> None:
        """Append the next publication.

        Args:
            publication: A publication with a position.
            published_at: The time of publication in seconds on a monotonic clock.
        """
        self.publications.append((published_at, publication))

    def between(self, since: Position, until: Position, now: float) -> list[Publication] | None:
        """Return the publications after one position up to another; ``None`` if any is missing or too old.

        Args:
            since: A position of the same epoch, not after ``until``.
            until: The current position of the room.
            now: The current time.
        """
        count = until.offset - since.offset
        if not 0 <= count <= len(self.publications):
            return None
        found = list(islice(self.publications, len(self.publications) - count, None))
        if not found:
            return []
        ends = (Position(since.epoch, since.offset + 1), until)
        if (found[0][1].position, found[-1][1].position) != ends:
            return None
        if found[0][0] < now - self.history.seconds:
            return None
        return [publication for _, publication in found]

    def expire(self, now: float) -> None:
        """Drop publications that are older than the history."""
        while self.publications and self.publications[0][0] < now - self.history.seconds:
            self.publications.popleft()

"""The publications of a room that were read from Redis or Valkey, and its position there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...history import Position
from ...presence import UNKNOWN_CHANGE
from ...publication import Publication


class Fetched(NamedTuple):
    """The reply to the operation ``sync_room``.

    Attributes:
        until: The position of the last publication in Redis, or of the last one in this piece.
        shows_positions: Whether clients get positions.
        publications: Publications up to ``until``, in order, each with its time on this process's clock.
        more: Whether Redis has publications after this piece.
    """

    until: Position
    shows_positions: bool
    publications: list[tuple[float, Publication]]
    more: bool = False

    @classmethod
    def decode(cls, reply: Sequence[Any], now: float) -> Fetched:
        """Decode a reply that arrived at a time."""
        epoch, offset, shown, now_ms, flat, more = reply
        until = Position(epoch.decode(), int(offset))
        publications = []
        for index in range(0, len(flat), 3):
            publication = Publication.decode(flat[index + 2])
            number = int(flat[index].partition(b"-")[0])
            published_ms = int(flat[index + 1])
            publication.number(Position(until.epoch, number), published_ms, shown=bool(shown))
            publication.change = UNKNOWN_CHANGE
            age_seconds = (int(now_ms) - published_ms) / 1000
            publications.append((now - age_seconds, publication))
        last = publications[-1][1].position if publications and more else None
        return cls(last or until, bool(shown), publications, bool(more))

    def split(self, position: Position) -> tuple[list[tuple[float, Publication]], Fetched]:
        """Return the publications up to a position, and the rest; of another epoch all are the rest."""
        old = [
            (published_at, publication)
            for published_at, publication in self.publications
            if position.epoch == self.until.epoch
            and publication.position is not None
            and publication.position.offset <= position.offset
        ]
        return old, self._replace(publications=self.publications[len(old) :])

"""The publications of a room that were read from Redis or Valkey, and its position there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...history import Position
from ...presence import UNKNOWN_CHANGE
from ...publication import RETRACTED, Publication


class Fetched(NamedTuple):
    """The reply to the operation ``sync_room``.

    Attributes:
        until: The position of the last publication in Redis, or of the last one in this piece.
        shows_positions: Whether clients get positions.
        publications: Publications up to ``until``, in order, each with its time on this process's clock. One with
            the header ``RETRACTED`` takes the place of a retracted one.
        more: Whether Redis has publications after this piece.
    """

    until: Position
    shows_positions: bool
    publications: list[tuple[float, Publication]]
    more: bool = False

    @classmethod
    def decode(cls, reply: Sequence[Any], now: float) -> Fetched:
        """Decode a reply that arrived at a time."""
        epoch, offset, shown, now_ms, flat, more, retracted = reply
        until = Position(epoch.decode(), int(offset))
        publications: list[tuple[float, Publication]] = []
        for index in range(0, len(flat), 3):
            publication = Publication.decode(flat[index + 2])
            number = int(flat[index].partition(b"-")[0])
            published_ms = int(flat[index + 1])
            publication.number(Position(until.epoch, number), published_ms, shown=bool(shown))
            publication.change = UNKNOWN_CHANGE
            age_seconds = (int(now_ms) - published_ms) / 1000
            publications.append((now - age_seconds, publication))
        last = publications[-1][1].position if publications and more else None
        until = last or until
        if retracted:
            publications = with_retracted(publications, retracted.decode(), until)
        return cls(until, bool(shown), publications, bool(more))

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


def with_retracted(
    publications: list[tuple[float, Publication]], retracted: str, until: Position
) -> list[tuple[float, Publication]]:
    """Add a placeholder for each retracted publication, so that their offsets have no gap.

    Args:
        publications: Publications in order, up to a position.
        retracted: An epoch, and offsets in it.
        until: The position.
    """
    epoch, *texts = retracted.split()
    offsets = {int(text) for text in texts} if epoch == until.epoch else set()
    filled: list[tuple[float, Publication]] = []
    following = until.offset + 1
    for published_at, publication in reversed(publications):
        position = publication.position
        assert position is not None
        for offset in range(following - 1, position.offset, -1):
            if offset in offsets:
                filled.append((published_at, placeholder(epoch, offset)))
        filled.append((published_at, publication))
        following = position.offset
    while filled and following - 1 in offsets:
        following -= 1
        filled.append((filled[-1][0], placeholder(epoch, following)))
    return filled[::-1]


def placeholder(epoch: str, offset: int) -> Publication:
    """Return a publication in the place of one that has been retracted."""
    publication = Publication.of_encoded(b"", header=RETRACTED)
    publication.number(Position(epoch, offset), 0, shown=False)
    return publication

"""The changes of a room's members while a list of them is read: the list then agrees with the stream."""

from __future__ import annotations

import asyncio

from ...history import Position
from ...presence import MemberChange
from ...publication import Publication


class ChangeRecorder:
    """Records the joins, leaves and updates that are delivered on this node.

    Attributes:
        changes: The changes, each with its offset.
        position: The position of the last publication delivered on this node.
        is_broken: Whether changes are missing.

    Args:
        position: The position at the start.
    """

    def __init__(self, position: Position) -> None:
        self.changes: list[tuple[int, MemberChange]] = []
        self.position = position
        self.is_broken = False
        self.target: tuple[Position, asyncio.Future[None]] | None = None

    def add(self, publication: Publication) -> None:
        """Record a publication."""
        position = publication.position
        if position is None:
            return
        self.position = position
        if publication.change is not None:
            self.changes.append((position.offset, publication.change))
        self._check_target()

    def break_off(self) -> None:
        """Record that changes are missing."""
        self.is_broken = True
        self._check_target()

    def _check_target(self) -> None:
        if self.target is not None:
            position, reached = self.target
            if (self.is_broken or self.has_reached(position)) and not reached.done():
                reached.set_result(None)

    def has_reached(self, position: Position) -> bool:
        """Return whether the publications up to a position have been delivered."""
        last = self.position
        return last.epoch == position.epoch and last.offset >= position.offset

    def is_complete(self, position: Position) -> bool:
        """Return whether the publications up to a position have been delivered, and no change is missing."""
        return self.has_reached(position) and not self.is_broken

    async def wait_reached(self, position: Position, seconds: float) -> bool:
        """Wait until the publications up to a position have been delivered; return whether none is missing."""
        if position.epoch != self.position.epoch:
            return False
        if not (self.is_broken or self.has_reached(position)):
            reached = asyncio.get_running_loop().create_future()
            self.target = (position, reached)
            await asyncio.wait({reached}, timeout=seconds)
        return self.is_complete(position)

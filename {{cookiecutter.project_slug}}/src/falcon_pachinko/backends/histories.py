"""The contract of histories: the publications of a room that a backend keeps for a while."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ..history import Position
from ..publication import Publication


class Histories(ABC):
    """The histories of rooms: what clients have missed, the last publications, and pages of earlier ones."""

    @abstractmethod
    def position(self, room: str) -> Position | None:
        """Return the position of the last publication delivered here; ``None`` without history."""

    @abstractmethod
    async def recover(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Return the publications after a position up to :meth:`position`; ``None`` if some are gone.

        Of ``since``, the position with the room's epoch counts. Nothing is delivered between the return
        and the caller's next ``await``.

        Raises:
            BackendUnavailable: Redis is unavailable; :meth:`.base.Node.on_resync` is called once
                :meth:`recover_local` has the publications.
        """

    @abstractmethod
    def recover_local(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Like :meth:`recover`, from the data in this process only."""

    @abstractmethod
    async def recent(self, room: str, count: int) -> list[Publication]:
        """Return at most so many of the last publications up to :meth:`position`; otherwise like :meth:`recover`."""

    @abstractmethod
    def recent_local(self, room: str, count: int) -> list[Publication]:
        """Like :meth:`recent`, from the data in this process only."""

    @abstractmethod
    async def past(self, room: str, before: Position | None, count: int) -> list[Publication]:
        """Return at most so many of the last publications in the history of any room, oldest first.

        Args:
            room: The room, subscribed or not.
            before: Only those before this position; none if its epoch has ended.
            count: The maximum number: fewer are returned if there are no others.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """

"""The accept transaction: messages before ``on_connect`` has accepted the connection."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import OutboxFull
from ..history import Position
from ..limits import Limits
from ..presence import UNKNOWN_CHANGE
from ..publication import Publication


class AcceptTransaction:
    """Messages that are buffered until ``on_connect`` accepts, and dropped if it does not.

    Attributes:
        own: Messages of ``on_connect`` to its own client, and received ones that precede some of them.
        received: Messages from joined rooms and from other connections; sent after :attr:`own`.
        deferred: Broadcasts of ``on_connect``: the room, the message, whether it is ephemeral.
    """

    __slots__ = ("deferred", "limits", "own", "received", "size_bytes")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.own: list[Publication] = []
        self.deferred: list[tuple[str, Publication, bool]] = []
        self.received: list[Publication] = []
        self.size_bytes = 0

    @property
    def count(self) -> int:
        """The number of buffered messages and broadcasts."""
        return len(self.own) + len(self.deferred) + len(self.received)

    def add_own(self, publication: Publication) -> None:
        """Buffer a message of ``on_connect`` to its own client.

        Raises:
            OutboxFull: The buffer exceeds the bounds of the outbox.
        """
        self.own.append(publication)
        self._count_bytes(publication)

    def add_received(self, publication: Publication) -> None:
        """Buffer a message from a room or another connection.

        Raises:
            OutboxFull: The buffer exceeds the bounds of the outbox.
        """
        self.received.append(publication)
        self._count_bytes(publication)

    def defer(self, room: str, publication: Publication, ephemeral: bool) -> None:
        """Defer a broadcast.

        Raises:
            OutboxFull: The buffer exceeds the bounds of the outbox.
        """
        self.deferred.append((room, publication, ephemeral))
        self._count_bytes(publication)

    def prepare_list(self, room: str) -> None:
        """Let the next message of ``on_connect`` be a list of a room's members.

        The list contains the joins, leaves and updates that have been received, so they are dropped.
        """
        self._precede(lambda each: each.change is not None and each.change.room == room)

    def prepare_snapshot(self, position: Position) -> None:
        """Let the next message of ``on_connect`` be a snapshot that contains a room's messages up to a position.

        Those that have been received are dropped; joins, leaves and updates are not, as a list may not contain them.
        """

        def is_contained(each: Publication) -> bool:
            found = each.position
            is_message = each.change is None and each.published_ms is not None
            return is_message and found is not None and position.includes(found)

        self._precede(is_contained)
        for each in self.received:
            if (
                each.published_ms is None
                and each.position is not None
                and position.includes(each.position)
            ):
                each.number(position, shown=True)  # What the client gets after its join.

    def _precede(self, is_contained: Callable[[Publication], bool]) -> None:
        """Drop the received messages that the next own message contains.

        Messages from a history do not say what they change: if there are any, all that has been received is sent first.
        """
        if any(each.change is UNKNOWN_CHANGE for each in self.received):
            self.own += self.received
            self.received = []
            return
        kept = [each for each in self.received if not is_contained(each)]
        self.size_bytes += sum(each.size_bytes for each in kept)
        self.size_bytes -= sum(each.size_bytes for each in self.received)
        self.received = kept

    def _count_bytes(self, publication: Publication) -> None:
        self.size_bytes += publication.size_bytes
        count, limits = self.count, self.limits
        if count > limits.outbox_messages or self.size_bytes > limits.outbox_bytes:
            raise OutboxFull(
                f"{count} messages of {self.size_bytes} bytes are buffered until on_connect accepts:"
                f" the limits are {limits.outbox_messages} and {limits.outbox_bytes}; send fewer there"
            )

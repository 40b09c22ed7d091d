"""What is said before a connection is accepted."""

from __future__ import annotations

from ..errors import OutboxFull
from ..limits import Limits
from ..publication import Publication


class Held:
    """The transaction of ``on_connect``: held back until it accepts, dropped if it does not.

    Attributes:
        own: Messages of ``on_connect`` to its own client.
        heard: What joined rooms and other connections said meanwhile.
        deferred: Its broadcasts: the room, what is said there, and whether that is ephemeral.
    """

    __slots__ = ("deferred", "heard", "own", "size_bytes")

    def __init__(self) -> None:
        self.own: list[Publication] = []
        self.deferred: list[tuple[str, Publication, bool]] = []
        self.heard: list[Publication] = []
        self.size_bytes = 0

    @property
    def count(self) -> int:
        """How many messages and broadcasts are held."""
        return len(self.own) + len(self.deferred) + len(self.heard)

    def add(self, publication: Publication, messages: list[Publication], limits: Limits) -> None:
        """Hold one more message in ``own`` or ``heard``.

        Raises:
            OutboxFull: More is held than may wait for one client.
        """
        messages.append(publication)
        self.size_bytes += publication.size_bytes
        self.check(limits)

    def defer(self, room: str, entry: Publication, ephemeral: bool, limits: Limits) -> None:
        """Put off one more broadcast.

        Raises:
            OutboxFull: More is held than may wait for one client.
        """
        self.deferred.append((room, entry, ephemeral))
        self.size_bytes += entry.size_bytes
        self.check(limits)

    def check(self, limits: Limits) -> None:
        """Raise OutboxFull when more is held than may wait for one client."""
        count = self.count
        if count > limits.outbox_messages or self.size_bytes > limits.outbox_bytes:
            raise OutboxFull(
                f"{count} messages with {self.size_bytes} bytes wait for on_connect to accept: the"
                f" limits are {limits.outbox_messages} and {limits.outbox_bytes}; send fewer there"
            )

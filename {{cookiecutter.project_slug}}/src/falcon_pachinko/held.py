"""What is said before a connection is accepted."""

from __future__ import annotations

from .errors import OutboxFull
from .limits import Limits
from .messages import Outgoing


class Held:
    """The transaction of ``on_connect``: held back until it accepts, dropped if it does not.

    Attributes:
        own: Messages of ``on_connect`` to its own client.
        deferred: Its broadcasts: the room, the message, whether the client itself is left out, and
            whether it counts only where no other connection of the user is.
        heard: What joined rooms and other connections said meanwhile.
    """

    __slots__ = ("deferred", "heard", "own", "size_bytes")

    def __init__(self) -> None:
        self.own: list[Outgoing] = []
        self.deferred: list[tuple[str, Outgoing, bool, bool]] = []
        self.heard: list[Outgoing] = []
        self.size_bytes = 0

    def add(self, outgoing: Outgoing, messages: list[Outgoing], limits: Limits) -> None:
        """Hold one more message in ``own`` or ``heard``.

        Raises:
            OutboxFull: More is held than may wait for one client.
        """
        messages.append(outgoing)
        self.size_bytes += outgoing.size_bytes
        self.check(limits)

    def defer(
        self, room: str, outgoing: Outgoing, exclude_self: bool, if_first: bool, limits: Limits
    ) -> None:
        """Put off one more broadcast.

        Raises:
            OutboxFull: More is held than may wait for one client.
        """
        self.deferred.append((room, outgoing, exclude_self, if_first))
        self.size_bytes += outgoing.size_bytes
        self.check(limits)

    def check(self, limits: Limits) -> None:
        """Raise OutboxFull when more is held than may wait for one client."""
        count = len(self.own) + len(self.deferred) + len(self.heard)
        if count > limits.outbox_messages or self.size_bytes > limits.outbox_bytes:
            raise OutboxFull(
                f"{count} messages with {self.size_bytes} bytes wait for on_connect to accept: the"
                f" limits are {limits.outbox_messages} and {limits.outbox_bytes}; send fewer there"
            )

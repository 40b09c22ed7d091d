"""Those who get what is said in a room, sorted by the way in which they get it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .connection import OPEN, Connection
from .messages import Outgoing
from .push import PushGroup, PushOutbox


class Audience:
    """Some connections, to which messages are sent again and again.

    Those with a push outbox get theirs from the turn of the event loop, which takes one step for all of
    them; the others one by one.

    Args:
        connections: Where one of them is not open yet, the audience has to be made anew once it is.
    """

    __slots__ = ("others", "pushed")

    def __init__(self, connections: Iterable[Connection]) -> None:
        outboxes: list[PushOutbox] = []
        self.others: list[Connection] = []
        for connection in connections:
            outbox = connection.outbox
            if isinstance(outbox, PushOutbox) and connection.state is OPEN:
                outboxes.append(outbox)
            else:
                self.others.append(connection)
        self.pushed = PushGroup(outboxes[0].turn, tuple(outboxes)) if outboxes else None

    def send(self, outgoing: Outgoing, exclude: Collection[Connection] = ()) -> None:
        """Deliver a message to each connection that is not excluded."""
        if self.pushed is not None:
            excluded = [connection.outbox for connection in exclude]
            self.pushed.turn.post(self.pushed, outgoing, excluded)
        for connection in self.others:
            if connection not in exclude:
                connection.deliver(outgoing)

"""Those who get what is said in a room, sorted by the way in which they get it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..connection.connection import CONNECTING, Connection
from ..connection.outbox import AnyOutbox
from ..publication import Publication
from ..uvicorn.outbox import PushGroup, PushOutbox


class Audience:
    """Some connections, to which messages are sent again and again.

    Those with a push outbox get theirs from the turn of the event loop, which takes one step for all of
    them; the others one by one.

    Args:
        connections: Where one of them is not open yet, the audience has to be made anew once it is.
    """

    __slots__ = ("newcomers", "outboxes", "pushed")

    def __init__(self, connections: Iterable[Connection]) -> None:
        self.newcomers: list[Connection] = []
        self.outboxes: list[AnyOutbox] = []
        pushed: list[PushOutbox] = []
        for connection in connections:
            outbox = connection.outbox
            if connection.state is CONNECTING:
                self.newcomers.append(connection)
            elif isinstance(outbox, PushOutbox):
                pushed.append(outbox)
            else:
                self.outboxes.append(outbox)
        self.pushed = PushGroup(pushed[0].turn, tuple(pushed)) if pushed else None

    def send(self, publication: Publication, exclude: Collection[Connection] = ()) -> None:
        """Deliver a message to each connection that is not excluded and not closed."""
        excluded = [connection.outbox for connection in exclude]
        if self.pushed is not None:
            self.pushed.turn.post(self.pushed, publication, excluded)
        for outbox in self.outboxes:
            if outbox not in excluded:
                outbox.write(publication)
        for connection in self.newcomers:
            if connection not in exclude:
                connection.deliver(publication)

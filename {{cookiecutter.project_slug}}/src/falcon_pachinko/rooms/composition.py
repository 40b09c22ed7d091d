"""The parts of a registry that count events where metrics are on, see :mod:`.counted`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from ..connection.connection import Connection
from ..connection.counts import Sent
from ..history import Position
from .fanout import FanOut
from .recovery import Past, send_past

TableT = TypeVar("TableT")


class Composition:
    """Makes the objects through which messages pass; here without a count, which costs nothing."""

    def compose(self, table: TableT) -> TableT:
        """Return the table of handlers of a connection."""
        return table

    def make_fanout(self, connections: Iterable[Connection], sent: Sent | None = None) -> FanOut:
        """Return the fan-out to connections."""
        return FanOut(connections, sent)

    def send_past(self, connection: Connection, position: Position | None, past: Past) -> None:
        """Send the past of a room with history, then its position."""
        send_past(connection, position, past)

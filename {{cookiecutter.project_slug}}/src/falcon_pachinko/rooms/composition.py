"""The parts of a registry that count events where metrics are on, see :mod:`.counted`."""

from __future__ import annotations

from typing import TypeVar

from ..connection.connection import Connection
from ..history import Position
from .fanout import FanOut
from .recovery import Past, send_past

TableT = TypeVar("TableT")


class Composition:
    """Makes the objects through which messages pass; here without a count, which costs nothing."""

    def compose(self, table: TableT) -> TableT:
        """Return the table of handlers of a connection."""
        return table

    def make_fanouts(self) -> dict[str, FanOut]:
        """Return a place for the fan-out of each room."""
        return {}

    # PERF: the class itself, without another call.
    make_fanout = staticmethod(FanOut)

    def send_past(self, connection: Connection, position: Position | None, past: Past) -> None:
        """Send the past of a room with history, then its position."""
        send_past(connection, position, past)

"""New snapshots for the members of a room whose picture of it may be outdated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from falcon import WebSocketDisconnected

from ..connection.connection import Connection
from ..connection.state import CONNECTING
from ..errors import BackendUnavailable
from ..support.tasks import TaskSet

logger = logging.getLogger(__name__)

# So many connections send their snapshots together, and share what they read for it.
CONNECTIONS_PER_STEP = 100


class Resyncs:
    """Calls the ``on_resync`` of the connections in a room, in the background.

    A room that needs it again meanwhile is repeated once from the start. A connection whose ``on_connect`` is still
    running gets it after the accept.

    Attributes:
        rooms: The rooms in progress, and whether each has to be repeated.
        late: The rooms of connections that are not accepted yet.

    Args:
        members: Returns the connections in a room.
        tasks: Run the calls.
    """

    def __init__(self, members: Callable[[str], Sequence[Connection]], tasks: TaskSet) -> None:
        self.members = members
        self.tasks = tasks
        self.rooms: dict[str, bool] = {}
        self.late: dict[Connection, set[str]] = {}

    def start(self, room: str) -> None:
        """Call ``on_resync`` for the connections in a room."""
        if room in self.rooms:
            self.rooms[room] = True
        else:
            self.rooms[room] = True
            self.tasks.create_task(self._run(room))

    async def _run(self, room: str) -> None:
        try:
            while self.rooms[room]:
                self.rooms[room] = False
                connections = self.members(room)
                for start in range(0, len(connections), CONNECTIONS_PER_STEP):
                    step = connections[start : start + CONNECTIONS_PER_STEP]
                    await asyncio.gather(*[self._resync(each, room) for each in step])
        finally:
            del self.rooms[room]

    def on_accepted(self, connection: Connection) -> None:
        """Call ``on_resync`` for the rooms that needed it during ``on_connect``."""
        for room in self.late.pop(connection, ()):
            self.tasks.create_task(self._resync(connection, room))

    async def _resync(self, connection: Connection, room: str) -> None:
        if connection.state is CONNECTING:
            self.late.setdefault(connection, set()).add(room)
            return
        if connection._on_resync is None or connection.closed:
            return
        try:
            async with asyncio.timeout(connection.limits.handler_seconds):
                await connection._on_resync(connection, room)
        except (BackendUnavailable, WebSocketDisconnected):
            pass  # after an outage there is another one; a client that reconnects gets a snapshot
        except Exception:
            logger.exception("on_resync of %r failed", connection)

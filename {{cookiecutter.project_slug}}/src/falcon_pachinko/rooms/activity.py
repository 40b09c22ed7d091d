"""What clients do at the moment, such as typing: shown to a room while it is reported, and ended in any case."""

from __future__ import annotations

import asyncio
import contextlib
import math

from ..backends.base import Backend
from ..connection.connection import Connection
from ..errors import BackendUnavailable
from ..publication import Publication
from ..support.tasks import TaskSet

REPEAT_SECONDS = 3.0
EXPIRY_SECONDS = 6.0


class Activities:
    """The activities that clients of this process show.

    Args:
        backend: The backend of the rooms.
        tasks: End activities that have expired.
    """

    def __init__(self, backend: Backend, tasks: TaskSet) -> None:
        self.backend = backend
        self.tasks = tasks
        self.shown: dict[Connection, set[Activity]] = {}

    def end_all(self, connection: Connection) -> None:
        """End the activities of a connection that has ended."""
        for activity in self.shown.pop(connection, ()):
            self.tasks.create_task(activity._end_quietly())


class Activity:
    """An activity of one client in a room, which the other members see; made by :meth:`.WebSocketResource.activity`.

    Args:
        activities: Those of this process.
        connection: The client.
        room: The room.
        messages: The message for the beginning, which is repeated, and the one for the end.
        repeat_seconds: The shortest time between two messages for the beginning.
        expiry_seconds: How long the activity lasts after a report.

    Raises:
        TypeError: JSON cannot represent a message.
        ValueError: A time is not a finite number above zero.
    """

    def __init__(
        self,
        activities: Activities,
        connection: Connection,
        room: str,
        messages: tuple[object, object],
        repeat_seconds: float,
        expiry_seconds: float,
    ) -> None:
        for name, seconds in (("repeat", repeat_seconds), ("expiry", expiry_seconds)):
            if not 0 < seconds < math.inf:
                raise ValueError(f"{name}_seconds is {seconds!r}: give a number above zero")
        self.activities = activities
        self.connection = connection
        self.room = room
        self.started, self.ended = (Publication(each).data for each in messages)
        self.repeat_seconds = repeat_seconds
        self.expiry_seconds = expiry_seconds
        self.sent_at = self.expires_at = -math.inf
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_shown(self) -> bool:
        """Whether the room has been told of the activity, and not of its end."""
        return self.timer is not None

    async def report(self) -> None:
        """Show the activity, or let it go on; nothing is sent more often than ``repeat_seconds`` allows.

        Raises:
            BackendUnavailable: Redis is unavailable; the message may not have arrived.
        """
        if self.connection.closed:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.expires_at = now + self.expiry_seconds
        if self.timer is None:
            self.timer = loop.call_at(self.expires_at, self._expire)
            self.activities.shown.setdefault(self.connection, set()).add(self)
        elif now - self.sent_at < self.repeat_seconds:
            return
        self.sent_at = now
        await self._send(self.started)

    async def end(self) -> None:
        """End the activity, if it is shown.

        Raises:
            BackendUnavailable: Redis is unavailable; the message may not have arrived.
        """
        if self.timer is None:
            return
        self.timer.cancel()
        self.timer = None
        shown = self.activities.shown.get(self.connection)
        if shown is not None:
            shown.discard(self)
            if not shown:
                del self.activities.shown[self.connection]
        await self._send(self.ended)

    async def _end_quietly(self) -> None:
        """End the activity; without Redis, the other members assume the end by themselves."""
        with contextlib.suppress(BackendUnavailable):
            await self.end()

    def _expire(self) -> None:
        """End the activity if it was not reported again."""
        loop = asyncio.get_running_loop()
        if loop.time() < self.expires_at:
            self.timer = loop.call_at(self.expires_at, self._expire)
        else:
            self.activities.tasks.create_task(self._end_quietly())

    async def _send(self, data: bytes) -> None:
        publication = Publication.to_room(
            Publication.of_encoded(data), exclude_connections=(self.connection.id,)
        )
        await self.activities.backend.publish_nowait(self.room, publication, ephemeral=True)

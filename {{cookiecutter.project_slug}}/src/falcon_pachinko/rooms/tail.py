"""A tail: the messages to a room or to a user, as they are delivered, for the operator of the process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from ..connection.carrier import carried
from ..publication import BINARY, Publication
from .manager import WebSocketConnectionManager
from .registry import ConnectionRegistry

# The messages of one tail that its reader has not taken, and the bytes of each that are shown.
MAX_QUEUED = 256
MAX_SHOWN_BYTES = 4_096

METHODS = ("deliver", "deliver_direct")


class TailedMessage(msgspec.Struct, frozen=True):
    """A message as it was delivered.

    Attributes:
        at: The time in Unix seconds.
        room: The room; ``None`` for a message to one user, to one connection or to all.
        size_bytes: The size of the message.
        text: Its text, at most the first :data:`MAX_SHOWN_BYTES`; empty for a binary one.
    """

    at: float
    room: str | None
    size_bytes: int
    text: str


class Tail:
    """The messages to rooms or to one user, from now on. A reader that is slow loses messages, and slows nothing.

    Attributes:
        dropped: The number of lost messages.

    Args:
        registry: The connections of the process.
        rooms: The rooms.
        user: The user, if there are no rooms.
    """

    def __init__(
        self, registry: ConnectionRegistry, rooms: Collection[str], user: str | None
    ) -> None:
        self.registry = registry
        self.rooms = frozenset(rooms)
        self.user = user
        self.queue: list[TailedMessage] = []
        self.dropped = 0
        self.arrived = asyncio.Event()

    async def take(self, timeout_seconds: float) -> list[TailedMessage]:
        """Wait for messages and return them; none if the timeout passes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self.arrived.wait()
        taken, self.queue = self.queue, []
        self.arrived.clear()
        return taken

    def offer(self, room: str | None, publication: Publication) -> None:
        """Keep a message that is about to be delivered, if it concerns this tail."""
        if not self._concerns(room, publication):
            return
        if len(self.queue) >= MAX_QUEUED:
            self.dropped += 1
            return
        shown = b"" if publication.opcode == BINARY else publication.body[:MAX_SHOWN_BYTES]
        text = shown.decode(errors="replace")
        self.queue.append(TailedMessage(time.time(), room, publication.size_bytes, text))
        self.arrived.set()

    def _concerns(self, room: str | None, publication: Publication) -> bool:
        if self.user is None:
            return room in self.rooms
        connections = carried(self.registry.users.connections_of(self.user))
        header = publication.header
        if room is not None:
            return any(
                self.registry.synced.has(each, room)
                and publication.is_for(each._previous_ids | {each.id}, self.user)
                for each in connections
            )
        if header.connection is not None:
            return any(each.id == header.connection for each in connections)
        return header.user in (None, self.user) and self.user not in header.exclude_users


class Tails:
    """The running tails of one process. Without one, no message passes through here.

    Args:
        manager: The connection manager.
    """

    def __init__(self, manager: WebSocketConnectionManager) -> None:
        self.registry = manager._registry
        self.running: list[Tail] = []
        # The registry's own methods, and those of its attributes that they replace, as traces do.
        self.deliver, self.deliver_direct = self.registry.deliver, self.registry.deliver_direct
        self.replaced: dict[str, Any] = {}

    @contextlib.contextmanager
    def open(self, *, rooms: Collection[str] = (), user: str | None = None) -> Iterator[Tail]:
        """Start a tail of rooms or of a user; it ends with the context.

        That of a user has the messages to the rooms in which the user is, to the user, to single connections of the
        user, and to all. What a handler sends to its own client is not among them.
        """
        tail = Tail(self.registry, rooms, user)
        if not self.running:
            self.deliver, self.deliver_direct = self.registry.deliver, self.registry.deliver_direct
            own = vars(self.registry)
            self.replaced = {name: own[name] for name in METHODS if name in own}
            # PERF: the attributes of the registry hide its methods for as long as a tail runs.
            own.update(deliver=self._deliver, deliver_direct=self._deliver_direct)
        self.running.append(tail)
        try:
            yield tail
        finally:
            self.running.remove(tail)
            if not self.running:
                own = vars(self.registry)
                for name in METHODS:
                    del own[name]
                own.update(self.replaced)

    def _deliver(self, room: str, publication: Publication) -> None:
        for tail in self.running:
            tail.offer(room, publication)
        self.deliver(room, publication)

    def _deliver_direct(self, publication: Publication) -> None:
        for tail in self.running:
            tail.offer(None, publication)
        self.deliver_direct(publication)

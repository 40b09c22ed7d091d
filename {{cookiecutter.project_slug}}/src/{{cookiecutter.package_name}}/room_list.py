"""The rooms of the service with users in them, read for all clients of a process together."""

from __future__ import annotations

import asyncio
import math

from falcon_pachinko import WebSocketConnectionManager

MAX_ROOMS = 200
KEPT_SECONDS = 2.0


class RoomList:
    """The rooms with a prefix, and the number of users in each.

    Args:
        manager: Knows the rooms.
        prefix: The prefix of their names.
    """

    def __init__(self, manager: WebSocketConnectionManager, prefix: str) -> None:
        self.manager = manager
        self.prefix = prefix
        self.lock = asyncio.Lock()
        self.found: dict[str, int] = {}
        self.read_at = -math.inf

    def name_of(self, room: str) -> str:
        """Return the name that users see."""
        return room.removeprefix(self.prefix)

    async def rooms(self) -> dict[str, int]:
        """Return the first 200 rooms by name, each with its number of users, as of at most 2 s ago.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        async with self.lock:
            now = asyncio.get_running_loop().time()
            if now - self.read_at > KEPT_SECONDS:
                names = (await self.manager.get_rooms_by_prefix(self.prefix))[:MAX_ROOMS]
                counts = await asyncio.gather(*map(self.manager.occupancy, names))
                self.found = dict(zip(names, counts, strict=True))
                self.read_at = now
            return self.found

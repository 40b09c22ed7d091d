"""The positions up to which a client has received the messages of its rooms."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any

# A position in a room's history: epoch:offset.
POSITION = re.compile(r"([^:\n]+):([0-9]{1,15})")
# A message from one of these connections may be among those that the next one recovers.
MAX_CONNECTION_IDS = 4


class Progress(enum.Enum):
    """What the position of a message shows."""

    NEW = enum.auto()
    REPEATED = enum.auto()
    GAP = enum.auto()


class Positions:
    """The last offset of each epoch, and the ids of the last connections.

    Args:
        limit: The number of epochs that are kept: one per room of the connection, and spare ones for epochs
            that have ended.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # Most recently received last.
        self.offsets: dict[str, int] = {}
        self.connection_ids: list[str] = []

    def advance(
        self, position: object, message_type: object, payload: Mapping[str, Any]
    ) -> Progress:
        """Advance to the position of a message.

        A ``serverPosition`` with ``connection`` is the state after a join, which may be behind the last one after
        a loss of the history. One without is a heartbeat: after the last message it shows a gap.
        """
        found = POSITION.fullmatch(position) if isinstance(position, str) else None
        if found is None:
            return Progress.NEW
        epoch, offset = found[1], int(found[2])
        known = self.offsets.get(epoch)
        if message_type != "serverPosition":
            if known is not None and offset <= known:
                return Progress.REPEATED
        elif payload.get("connection") is not None:
            connection_id = str(payload["connection"])
            others = [each for each in self.connection_ids if each != connection_id]
            self.connection_ids = [*others, connection_id][-MAX_CONNECTION_IDS:]
        elif known is not None:
            # It may be lower, where the last messages were not for all members of the room.
            return Progress.NEW if offset <= known else Progress.GAP
        self.offsets.pop(epoch, None)
        self.offsets[epoch] = offset
        while len(self.offsets) > self.limit:
            del self.offsets[next(iter(self.offsets))]
        return Progress.NEW

    @property
    def since(self) -> list[str]:
        """The positions to recover from."""
        return [f"{epoch}:{offset}" for epoch, offset in self.offsets.items()]

"""What a load client is to do, and what it found: they cross the border between two processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["burst", "idle", "paced", "stall"]
Dialect = Literal["plain", "socket.io"]
Outcome = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One measurement of one server.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        pid: Its process.
        path: Where a client connects; ``{room}`` becomes the room's name.
        dialect: What is spoken over WebSocket.
        message: What a sender says: a whole text message.
        kind: What is done and measured; see the functions of :mod:`bench.load`.
        room_members: How many get each message, the sender too.
        connections: All of them, in rooms of equal size.
        in_flight: How many messages a sender says at once before it waits until all have them.
        deflate: Whether compression is offered.
        seconds: How long is measured, and a third of it before that as a warm-up.
        messages_per_second: Of each room, where the messages are paced; 0 takes half of what the
            server can do.
    """

    port: int
    pid: int
    path: str
    dialect: Dialect
    message: str
    kind: Kind
    room_members: int
    connections: int
    in_flight: int
    deflate: bool
    seconds: float
    messages_per_second: float

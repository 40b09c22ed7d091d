"""What a load client is told, and what it answers: one line of JSON each, between two processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dialect = Literal["plain", "socket.io"]
Action = Literal["burst", "memory", "paced", "stall", "trial"]

# Figures by name; the name ends with the unit.
Outcome = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Whom a load client speaks to, and with how many connections.

    Attributes:
        ports: Where the server listens, on 127.0.0.1; several where it is several processes, and then the
            members of each room are on all of them.
        pids: Its processes.
        engine_pid: The engine that they share; 0 for none.
        path: Where a client connects; ``{room}`` becomes the room's name.
        dialect: What is spoken over WebSocket.
        message: What a sender says: a whole text message.
        room_members: How many get each message, the sender too.
        connections: All of them, in rooms of equal size.
        in_flight: How many messages a sender says at once before it waits until all have them.
        deflate: Whether compression is offered.
        silent: Whether nobody says anything, not even to see that all are there.
    """

    ports: tuple[int, ...]
    pids: tuple[int, ...]
    engine_pid: int
    path: str
    dialect: Dialect
    message: str
    room_members: int
    connections: int
    in_flight: int
    deflate: bool
    silent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One measurement; what each action is and finds say the functions of ``bench.load``.

    Attributes:
        seconds: How long is measured.
        messages_per_second: Of all rooms together, where messages are paced.
    """

    action: Action
    seconds: float = 0.0
    messages_per_second: float = 0.0

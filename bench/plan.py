"""Messages between the benchmark and its load clients, one line of JSON each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Rooms with a history, and the messages that each of their clients gets when it joins.
RECENT_ROOMS, RECENT_MESSAGES = 10, 50

Dialect = Literal["plain", "rooms", "socket.io"]
Action = Literal["burst", "memory", "paced", "stall", "trial"]

# Figures by name, which ends with the unit.
Outcome = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The server and the connections of a load client.

    Attributes:
        ports: The ports on 127.0.0.1; the members of each room are spread over them.
        pids: The server's processes.
        redis_pid: The Valkey that they share; 0 for none.
        path: The path of a room, with ``{room}`` for its name.
        dialect: The protocol on WebSocket.
        message: The text message of a sender, with ``ROOM`` for the name of its room.
        room_members: The recipients of each message, including the sender.
        connections: The total, in rooms of equal size.
        in_flight: The messages that a sender has in transit at once.
        deflate: Whether compression is offered.
        silent: Whether no message is sent at all.
    """

    ports: tuple[int, ...]
    pids: tuple[int, ...]
    redis_pid: int
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
    """A measurement; the methods of ``bench.load.Client`` implement the actions.

    Attributes:
        action: The action.
        seconds: The duration.
        messages_per_second: The rate over all rooms, for paced messages.
    """

    action: Action
    seconds: float = 0.0
    messages_per_second: float = 0.0

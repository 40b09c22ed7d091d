"""Messages between the benchmark and its load clients, one line of JSON each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Rooms with a history, and the messages that each of their clients gets when it joins.
RECENT_ROOMS, RECENT_MESSAGES = 10, 50

Dialect = Literal["plain", "history", "rooms", "socket.io"]
Action = Literal["burst", "connect", "join", "memory", "paced", "stall", "trial"]

# Figures by name, which ends with the unit.
Outcome = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The server and the connections of a load client.

    Attributes:
        name: The name of the server, with which the names of rooms begin: two may be one process.
        ports: The ports on 127.0.0.1; the members of each room are spread over them.
        pids: The server's processes.
        redis_pid: The Valkey that they share; 0 for none.
        path: The path of a room, with ``{room}`` for its name.
        dialect: The protocol on WebSocket.
        messages: The text messages of a sender, in rotation, with ``ROOM`` for the name of its room.
        rooms: The number of members of each room: the recipients of a message, with the sender.
        excludes_sender: Whether the sender does not get its own messages.
        query: What the members of rooms append to the path.
        recent: The number of messages that are sent to each room once its members have joined.
        visitors: The clients that connect in a measurement and leave.
        in_flight: The messages that a sender has in transit at once.
        offer: The extension that clients offer, with its parameters; empty for none.
        accepted: The parameters that the server's response must contain.
        silent: Whether no message is sent at all.
    """

    name: str
    ports: tuple[int, ...]
    pids: tuple[int, ...]
    redis_pid: int
    path: str
    dialect: Dialect
    messages: tuple[str, ...]
    rooms: tuple[int, ...]
    excludes_sender: bool
    query: str
    recent: int
    visitors: int
    in_flight: int
    offer: str
    accepted: tuple[str, ...]
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

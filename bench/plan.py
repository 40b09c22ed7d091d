"""Messages between the benchmark and its load clients, and between the processes of a load client, one line of JSON each."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

from .child import Child

ANSWER_SECONDS = 60
# Of six servers with 10,000 connections each.
CONNECT_SECONDS = 400

# Rooms with a history, and the messages that each of their clients gets when it joins.
RECENT_ROOMS, RECENT_MESSAGES = 10, 50

Dialect = Literal["plain", "history", "rooms", "socket.io"]
Action = Literal[
    "burst", "connect", "drive", "fill", "grow", "join", "memory", "paced", "stall", "trial"
]

# Figures by name, which ends with the unit.
Outcome = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The server and the connections of a load client.

    Attributes:
        name: The name of the server, with which the names of rooms begin: two may be one process.
        ports: The ports on 127.0.0.1; the members of each room are spread over them.
        address: The address that clients connect from.
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
        gradual: Whether rooms connect by orders only, not before the first one.
        processes: The number of processes of the load client; each has a share of the rooms.
    """

    name: str
    ports: tuple[int, ...]
    address: str
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
    gradual: bool
    processes: int

    def shares(self) -> list[Plan]:
        """Return the plans of the processes, whose rooms connect by orders: each has every n-th room and an address.

        Linux has 28,000 ports for the connections of an address to a port. From half of them on it takes up to
        milliseconds to find a free one.
        """
        if self.processes == 1:
            return [self]
        return [
            dataclasses.replace(
                self,
                name=f"{self.name}-{number}",
                address=f"127.0.0.{1 + number}",
                rooms=self.rooms[number :: self.processes],
                gradual=True,
                processes=1,
            )
            for number in range(self.processes)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A measurement; the methods of ``bench.load.Client`` implement the actions.

    Attributes:
        action: The action.
        seconds: The duration.
        messages_per_second: The rate over all rooms, for paced messages.
        rooms: The number of rooms that are connected afterwards.
    """

    action: Action
    seconds: float = 0.0
    messages_per_second: float = 0.0
    rooms: int = 0


def ask(client: Child, order: Order) -> Outcome:
    """Send an order to a load client, or to one of its processes, and wait for its outcome."""
    client.write_line(json.dumps(dataclasses.asdict(order)))
    bound = CONNECT_SECONDS if order.action in ("fill", "grow") else ANSWER_SECONDS
    outcome: Outcome = json.loads(client.read_line(order.seconds + bound))
    return outcome

"""The state machine of one room on the connection of another client."""

from __future__ import annotations

import dataclasses

from .liveness import MAX_TIMER_SECONDS
from .machine import Machine
from .platform import Socket
from .positions import Positions
from .rooms import RoomSocket
from .status import State, Status

# The position of the room, and a spare one.
MAX_ROOM_POSITIONS = 2


class RoomMachine(Machine):
    """A room, with its own status, queue, positions and requests.

    Args:
        carrier: The client of the connection.
        room: The name of the room.
    """

    def __init__(self, carrier: Machine, room: str) -> None:
        # The server answers each request to join.
        options = dataclasses.replace(carrier.options, connect_timeout_seconds=MAX_TIMER_SECONDS)
        super().__init__(carrier.url, options, carrier.platform)
        self.connection = carrier
        self.room = room
        self.positions = Positions(MAX_ROOM_POSITIONS)

    def next_reference(self) -> str:
        """Return a reference of the connection: the server knows all requests by its client's id."""
        return self.connection.next_reference()

    def open_socket(self, token: str | None) -> None:
        """Request to join the room, with its positions."""
        past = {"since": self.positions.since, "connection": self.positions.connection_ids}
        socket = RoomSocket(self.connection.rooms, self, self.room, past)
        self.socket = socket
        self.connection.rooms.carry(socket)

    def recover(self, socket: Socket) -> None:
        """Replace the connection: a leave would be announced in the room."""
        self.connection.reconnect()

    def set_status(self, status: Status) -> None:
        """Set the status and report it; a closed room is forgotten."""
        machines = self.connection.rooms.machines
        if status.state is State.CLOSED and machines.get(self.room) is self:
            del machines[self.room]
        super().set_status(status)


def join_room(carrier: Machine, room: str) -> RoomMachine:
    """Return the machine of a room on the connection of a client, which is not started; one that exists is returned."""
    machines = carrier.rooms.machines
    found = machines.get(room)
    if not isinstance(found, RoomMachine):
        found = machines[room] = RoomMachine(carrier, room)
    return found

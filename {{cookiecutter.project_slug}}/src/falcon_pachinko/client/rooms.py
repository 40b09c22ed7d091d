"""Several rooms on one connection: each is a client of its own, and all are joined again after a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..close_codes import ABNORMAL_CLOSURE, NORMAL_CLOSURE, TRY_AGAIN_LATER
from ..messages import ENCODER
from .core import Core
from .status import State

# The largest request to join: the server's bound of a message is 64 KiB, and names may take more bytes than characters.
MAX_JOIN_CHARACTERS = 16_384


class RoomSocket:
    """The part of a connection that a room has.

    Attributes:
        room: The name of the room.
        past: Its positions and the ids of its earlier connections, for the recovery.
        reference: The reference of the request to join; ``None`` before it is sent.
        asked: All rooms of that request.
    """

    def __init__(self, rooms: Rooms, machine: Core, room: str, past: dict[str, list[str]]) -> None:
        self.rooms = rooms
        self.machine = machine
        self.room = room
        self.past = past
        self.reference: str | None = None
        self.asked: frozenset[str] = frozenset()
        self.has_joined = False
        self.has_ended = False

    @property
    def is_joined(self) -> bool:
        """Whether messages can be received: the connection may be closing, with messages that are not read yet."""
        return self.has_joined and not self.has_ended

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent: the room is joined, and its connection is open."""
        socket = self.rooms.machine.socket
        return self.is_joined and socket is not None and socket.is_open

    @property
    def buffered_bytes(self) -> int:
        """The size of messages of the connection that are not written yet."""
        socket = self.rooms.machine.socket
        return 0 if socket is None else socket.buffered_bytes

    def send(self, text: str, unsent: Callable[[], object] | None = None) -> None:
        """Send a message in the room; ``text`` is an encoded object that is not empty."""
        socket = self.rooms.machine.socket
        if socket is not None and socket.is_open:
            room = ENCODER.encode(self.room).decode()
            socket.send(f'{text[:-1]},"room":{room}}}', unsent)

    def return_unsent(self) -> None:
        """Do nothing: the connection reports the messages of its rooms."""

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Leave the room."""
        if not self.has_ended:
            self.has_ended = True
            self.rooms.leave(self)

    def end(self, code: int, reason: str, *, is_dropped: bool = False) -> None:
        """Report the end: the room is left, or its connection is lost."""
        self.has_ended = True
        self.machine.on_end(self, code, reason, is_dropped=is_dropped)


class Rooms:
    """The rooms of one connection.

    Attributes:
        machines: The clients of the rooms by name.
        sockets: Their latest sockets.
    """

    def __init__(self, machine: Core) -> None:
        self.machine = machine
        self.machines: dict[str, Core] = {}
        self.sockets: dict[str, RoomSocket] = {}

    def carry(self, socket: RoomSocket) -> None:
        """Carry the socket of a room, which is joined with all others that are waiting."""
        self.sockets[socket.room] = socket
        self.machine.platform.call_soon(self.join_waiting)

    def join_waiting(self) -> None:
        """Join all rooms that are waiting, by as few messages as their size permits."""
        machine = self.machine
        if machine.opened_at is None or machine.socket is None or not machine.socket.is_open:
            return
        waiting = [each for each in self.sockets.values() if each.reference is None]
        while waiting:
            reference, rooms, size = machine.next_reference(), list[object](), 0
            joining: list[RoomSocket] = []
            while waiting and size < MAX_JOIN_CHARACTERS:
                joining.append(socket := waiting.pop(0))
                rooms.append({"room": socket.room, **socket.past})
                size += len(ENCODER.encode(rooms[-1]).decode())
            asked = frozenset(socket.room for socket in joining)
            for socket in joining:
                socket.reference, socket.asked = reference, asked
            message = {"type": "clientJoin", "payload": {"rooms": rooms}, "ref": reference}
            machine.socket.send(ENCODER.encode(message).decode())

    def leave(self, socket: RoomSocket) -> None:
        """Leave a room, if it was joined or may be."""
        if self.sockets.get(socket.room) is socket:
            del self.sockets[socket.room]
        connection = self.machine.socket
        if connection is None or not connection.is_open:
            return
        if socket.reference is not None and self.machine.state is State.OPEN:
            message = {"type": "clientLeave", "payload": {"room": socket.room}}
            # NOTE: never queued: a loss leaves all rooms, and the room may be joined again first.
            connection.send(ENCODER.encode(message).decode())

    def refuse_all(self, message: dict[str, Any]) -> bool:
        """End the rooms of a request to join that is refused as a whole; return whether a message is such a refusal.

        It has the reference of the request, and no room or one that was not asked for.
        """
        room, reference = message.get("room"), message.get("ref")
        if message["type"] != "serverError" or not isinstance(reference, str):
            return False
        refused = [
            socket
            for socket in self.sockets.values()
            if socket.reference == reference
            and not socket.has_joined
            and not (isinstance(room, str) and room in socket.asked)
        ]
        self.refuse(refused, message["payload"])
        return bool(refused)

    def refuse(self, sockets: list[RoomSocket], payload: dict[str, Any]) -> None:
        """End rooms that the server refuses: without a close code for now."""
        code = int(payload.get("closeCode", TRY_AGAIN_LATER))
        for socket in sockets:
            del self.sockets[socket.room]
        for socket in sockets:
            socket.end(code, str(payload.get("error", "")))

    def receive(self, message: dict[str, Any]) -> None:
        """Pass a message on to its room; one for a room that has been left is ignored."""
        room, payload = message["room"], message["payload"]
        socket = self.sockets.get(room)
        if socket is None:
            return
        if socket.is_joined:
            if message["type"] != "serverLeft":
                socket.machine.on_message(socket, message)
                return
            code = int(payload.get("code", NORMAL_CLOSURE))
            del self.sockets[room]
            socket.end(code, str(payload.get("reason", "")))
        elif message.get("ref") != socket.reference:
            return
        elif message["type"] == "serverJoined":
            socket.has_joined = True
            socket.machine.on_open(socket)
        elif message["type"] == "serverError":
            self.refuse([socket], payload)

    def receive_positions(self, rooms: dict[str, list[str]]) -> None:
        """Let each room check its position in a heartbeat."""
        for room, positions in rooms.items():
            for position in positions:
                socket = self.sockets.get(room)
                if socket is not None and socket.is_joined:
                    message = {"type": "serverPosition", "payload": {}, "id": position}
                    socket.machine.on_message(socket, message)

    def drop(self) -> None:
        """The connection is lost: its rooms wait for the next one."""
        sockets, self.sockets = self.sockets, {}
        for socket in sockets.values():
            socket.end(ABNORMAL_CLOSURE, "", is_dropped=True)

    def end(self, code: int, reason: str) -> None:
        """The client is closed, and its rooms with it."""
        machines, self.machines = self.machines, {}
        for machine in machines.values():
            machine.end(code, reason)

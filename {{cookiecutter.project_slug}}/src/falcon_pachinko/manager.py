"""Every connection of an application and the rooms they are in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterator

from falcon import WebSocketDisconnected

from .audience import Audience
from .connection import Connection
from .messages import Outgoing
from .rooms import Rooms


class WebSocketConnectionManager:
    """Sends to rooms, to everybody and to single connections; ``app.ws_connection_manager``.

    A message is encoded once, however many get it. Sending to many never waits for a client and never
    raises because of one. Iterating goes over the connections that ``on_connect`` has accepted.
    """

    def __init__(self) -> None:
        self.connections: dict[str, Connection] = {}
        self.rooms: Rooms[Connection, Audience] = Rooms(Audience)
        self.emptied: asyncio.Event | None = None

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self.connections.values()))

    def __len__(self) -> int:
        return len(self.connections)

    async def broadcast_to_room(
        self, room: str, message: object, *, exclude: Collection[Connection] = ()
    ) -> None:
        """Send a message to all members of a room.

        Args:
            room: Nobody need be in it.
            message: A :class:`~falcon_pachinko.messages.Message` or anything that JSON can hold.
            exclude: Connections that do not get it.

        Raises:
            TypeError: The message holds something that JSON cannot; nobody got it.
        """
        outgoing = Outgoing.of(message)
        audience = self.rooms.audience(room)
        if audience is not None:
            audience.send(outgoing, exclude)

    async def broadcast_to_all(
        self, message: object, *, exclude: Collection[Connection] = ()
    ) -> None:
        """Send a message to all connections; otherwise like :meth:`broadcast_to_room`."""
        Audience(self).send(Outgoing.of(message), exclude)

    async def send_to_connection(self, connection_id: str, message: object) -> bool:
        """Send a message to one connection by its id; ``False`` when it is not here (any more)."""
        outgoing = Outgoing(message)
        connection = self.connections.get(connection_id)
        if connection is None or connection.closed:
            return False
        connection.deliver(outgoing)
        return True

    async def get_rooms_by_prefix(self, prefix: str) -> list[str]:
        """The names of all rooms that begin with the prefix and have somebody in them, sorted."""
        return self.rooms.with_prefix(prefix)

    async def members(self, room: str) -> list[str]:
        """The users in a room, each once, in the order in which they came."""
        return self.rooms.users(room)

    async def join_room(self, connection: Connection, room: str) -> bool:
        """Put a connection into a room.

        Returns:
            Whether its user was not visibly in the room before; joining again gives ``False``.

        Raises:
            InvalidRoomName: A room cannot have this name.
            falcon.WebSocketDisconnected: The connection's life is over.
        """
        if connection.finished:
            raise WebSocketDisconnected(connection.close_code)
        return self.rooms.join(connection, room)

    async def leave_room(self, connection: Connection, room: str) -> bool:
        """Take a connection out of a room.

        Returns:
            Whether its user was visibly in the room and is not any more.
        """
        return self.rooms.leave(connection, room)

    def is_first(self, connection: Connection, room: str) -> bool:
        """Whether no other connection of the user is visibly in the room."""
        return self.rooms.is_only_visible(connection, room, connection.user)

    def add(self, connection: Connection) -> None:
        """Make an accepted connection known."""
        self.connections[connection.id] = connection
        self.rooms.show(connection)

    async def wait_empty(self) -> None:
        """Wait until every connection has said goodbye, as long as their limits let them take."""
        seconds = [c.limits.on_disconnect_seconds + c.limits.close_seconds for c in self]
        if seconds:
            self.emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.emptied.wait(), max(seconds))

    def forget(self, connection: Connection) -> None:
        """Take a connection out of everything; from now on it cannot come back."""
        connection.finished = True
        self.connections.pop(connection.id, None)
        self.rooms.leave_all(connection)
        if self.emptied is not None and not self.connections:
            self.emptied.set()

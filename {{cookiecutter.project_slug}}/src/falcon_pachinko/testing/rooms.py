"""The rooms of a test client's connection: what arrives is sorted by room."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Self

from websockets.asyncio.client import ClientConnection

from ..connection.channel_outbox import room_field
from ..messages import CLIENT_JOIN, CLIENT_LEAVE
from ..publication import with_fields
from .envelope import decode_or_none

Data = str | bytes


class JoinRefused(Exception):
    """A room refused a client: ``code`` is that of the error, ``close_code`` what a connection would be closed with."""

    def __init__(self, room: str, code: str, close_code: int | None, text: str) -> None:
        super().__init__(f"room {room!r} refused the client: {code} ({close_code}): {text}")
        self.code = code
        self.close_code = close_code
        self.text = text


class RoomReader:
    """Reads a connection for all rooms of it: messages that others wait for are kept for them.

    Attributes:
        unread: The messages of each room, and under ``None`` those of the connection itself.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.unread: dict[str | None, deque[Data]] = {None: deque()}
        self.lock = asyncio.Lock()

    async def next(self, room: str | None) -> Data:
        """Wait for the next message of a room."""
        unread = self.unread[room]
        while not unread:
            async with self.lock:
                if not unread:
                    data = await self.socket.recv()
                    self._queue_of(data).append(data)
        return unread.popleft()

    def _queue_of(self, data: Data) -> deque[Data]:
        if len(self.unread) > 1:
            message = decode_or_none(data)
            room = message.get("room") if isinstance(message, dict) else None
            if isinstance(room, str) and room in self.unread:
                return self.unread[room]
        return self.unread[None]


class InRooms(ABC):
    """The part of a client that joins and leaves rooms, and is in one of them.

    Attributes:
        reader: Reads the connection.
        room: The room; ``None`` for the connection itself, which gets the messages of rooms that :meth:`join` has
            not joined, too.
    """

    reader: RoomReader
    room: str | None = None

    async def join(
        self, room: str, *, since: Sequence[str] = (), previous: Sequence[str] = ()
    ) -> Self:
        """Join a room on a route with several rooms per connection; return a client of this room.

        Args:
            room: The client's name of the room.
            since: The last positions that an earlier client has received.
            previous: The ids of earlier connections.

        Raises:
            JoinRefused: The room was not joined.
        """
        self.reader.unread[room] = deque()
        joined = self.in_room(room)
        await self.send(CLIENT_JOIN, {"room": room, "since": since, "connection": previous})
        reply = await joined.receive()
        if reply["type"] == "serverError":
            del self.reader.unread[room]
            payload = reply["payload"]
            raise JoinRefused(room, payload["code"], payload.get("closeCode"), payload["error"])
        return joined

    async def leave(self) -> list[Any]:
        """Leave the room; return the messages up to ``serverLeft``."""
        await self.in_room(None).send(CLIENT_LEAVE, {"room": self.room})
        messages = await self.receive_until("serverLeft")
        self.reader.unread.pop(self.room, None)
        return messages

    def with_room(self, text: str) -> str:
        """Return an encoded message with the name of the room."""
        if self.room is None:
            return text
        return with_fields(text.encode(), room_field(self.room)).decode()

    @abstractmethod
    def in_room(self, room: str | None) -> Self:
        """Return a client of the same connection for another room."""

    @abstractmethod
    async def send(self, message: object, payload: object = None) -> None:
        """Send a message."""

    @abstractmethod
    async def receive(self) -> Any:
        """Wait for the next message."""

    @abstractmethod
    async def receive_until(self, expected: str) -> list[Any]:
        """Wait for a message of a type."""

"""The connection manager: the methods that applications call to reach rooms, users and connections."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..backends.base import Backend
from ..backends.memory import MemoryBackend
from ..backends.presence import Presence
from ..connection.connection import Connection
from ..history import Position
from ..limits import DEFAULT_SERVER_LIMITS, ServerLimits
from ..names import check_room_name, check_user_name
from ..presence import ChangeKind, MemberChange, MemberPage, encode_record
from ..publication import Publication
from .drain import Drain
from .history import RoomHistories
from .registry import ConnectionRegistry
from .session_control import SessionControl


class WebSocketConnectionManager(SessionControl, RoomHistories):
    """Sends to rooms, users, single connections or all of them; ``app.ws_connection_manager``.

    A message is encoded once. Sending to many connections never waits for a client and never raises
    because of one. Rooms and users are those of all processes that share a backend; iteration covers the
    accepted connections of this process, and a connection that is in several rooms is one.

    Args:
        backend: The backend; by default the rooms of this process alone.
        server_limits: The bounds of all connections of this process together.
    """

    def __init__(
        self,
        backend: Backend | None = None,
        server_limits: ServerLimits = DEFAULT_SERVER_LIMITS,
    ) -> None:
        self.backend = backend or MemoryBackend()
        self._registry = ConnectionRegistry(self.backend, server_limits)
        self.backend.node = self._registry
        self._drain = Drain(self._registry)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._registry.connections.values()))

    def __len__(self) -> int:
        return len(self._registry.connections)

    @property
    def draining(self) -> bool:
        """Whether this process is about to stop, so that it should get no further clients."""
        return self._drain.has_begun

    async def broadcast_to_room(
        self,
        room: str,
        message: object,
        *,
        exclude: Collection[Connection] = (),
        exclude_users: Collection[str] = (),
        ephemeral: bool = False,
    ) -> Position | None:
        """Send a message to all members of a room.

        Args:
            room: The room; it may be empty.
            message: A :class:`~falcon_pachinko.messages.Message` or any object that JSON can represent.
            exclude: Connections that do not receive it.
            exclude_users: Users that do not receive it.
            ephemeral: Do not store it in the room's history.

        Returns:
            The position of the message in the room; ``None`` for an ephemeral one; in one process also without a history.

        Raises:
            BackendUnavailable: Redis is unavailable; the message may not have arrived.
            LeaseLost: The caller is a worker that another node has replaced.
            TypeError: JSON cannot represent the message; it was not sent.
        """
        publication = Publication.to_room(message, ids_of(exclude), exclude_users)
        return await self.backend.publish_nowait(room, publication, ephemeral=ephemeral)

    async def broadcast_to_all(
        self, message: object, *, exclude: Collection[Connection] = ()
    ) -> None:
        """Send a message to all connections, at most once; otherwise like :meth:`broadcast_to_room`."""
        await self.backend.publish_direct(Publication.to_room(message, ids_of(exclude)))

    async def send_to_user(self, user: str, message: object) -> None:
        """Send a message to all connections of a user, at most once.

        Raises:
            BackendUnavailable: Redis is unavailable; the message may not have arrived.
            TypeError: JSON cannot represent the message.
        """
        await self.backend.publish_direct(Publication.direct(message, user=user))

    async def send_to_connection(self, connection_id: str, message: object) -> bool:
        """Send a message to one connection by its id, at most once.

        Returns:
            ``False`` if the connection has ended. For a connection of another process, ``True`` means that
            the process has received the message.

        Raises:
            BackendUnavailable: The connection is not in this process, and Redis is unavailable.
            TypeError: JSON cannot represent the message.
        """
        publication = Publication.direct(message, connection=connection_id)
        connection = self._registry.find(connection_id)
        if connection is not None and not connection.closed:
            self._registry.deliver_direct(publication)
            return True
        if connection_id.startswith(self.backend.node_id):
            return False
        return await self.backend.publish_direct(publication) > 0

    async def disconnect_user(self, user: str, code: int = 1000, reason: str = "") -> None:
        """Close all connections of a user, on all nodes; return when each node has confirmed it.

        A node that is cut off closes them when it has recovered.

        Args:
            user: The user.
            code: The close code.
            reason: A sentence for the user, truncated to 123 bytes of UTF-8.

        Raises:
            BackendUnavailable: Redis is unavailable, or a node does not respond; connections may still be open.
            ValueError: An endpoint may not send the code.
        """
        await self.backend.command(Publication.close(code, reason, user=user))

    async def close_room(self, room: str, code: int = 1000, reason: str = "") -> None:
        """Close all connections that are in a room; otherwise like :meth:`disconnect_user`."""
        await self.backend.command(Publication.close(code, reason), room)

    async def get_rooms_by_prefix(self, prefix: str) -> list[str]:
        """Return the names of all rooms with members that start with a prefix, sorted.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        return await self.backend.rooms(prefix)

    async def members(
        self, room: str, *, after: int | str | None = None, limit: int | None = None
    ) -> MemberPage:
        """Return the users in a room, each once, in the order in which they joined; a list, all or a page of it.

        In memory, a page takes time in proportion to its own length. While Redis is unavailable, these are
        the users of this process, and a cursor of an earlier page may skip or repeat some.

        Args:
            room: The room; it may be empty.
            after: The ``cursor`` of the page before, or the name of a user that is in the room.
            limit: The maximum number of users; all by default, which suits small rooms only.

        Raises:
            LookupError: ``after`` is the name of a user that is not in the room. A cursor has no such error.
            ValueError: ``limit`` is below 1.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit!r}: a page has at least one user")
        return await self.backend.members(room, after, limit)

    async def occupancy(self, room: str) -> int:
        """Return the number of users in a room, in constant time; during an outage of Redis, those of this process."""
        return await self.backend.occupancy(room)

    async def join_room(
        self,
        connection: Connection,
        room: str,
        *,
        join_message: object = None,
        leave_message: object = None,
        meta: object = None,
        recent: int = 0,
    ) -> bool:
        """Add a connection to a room.

        Args:
            connection: The connection; its ``user`` counts for presence.
            room: The room; it may be new.
            join_message: Sent to the other members when the user's first connection joins, and not before
                ``on_connect`` has accepted it.
            leave_message: Sent to the other members when the user has left: at once after
                :meth:`leave_room`; ``grace_seconds`` after the user's last connection has ended, unless the
                user has reconnected. It is sent even if this process dies.
            meta: The connection's record in the list of members, such as a status: a struct or any object that
                JSON can represent, encoded at most 1 KiB. It ends with the connection; ``None`` for none.
            recent: Send at most so many of the last messages in the room's history before live ones, as many as half
                of the outbox has place for. A reconnecting client gets what it has missed instead, if that is known.

        Returns:
            Whether the user was not visible in the room before; ``False`` if the connection is in the room.

        Raises:
            Forbidden: The user is banned from the room.
            InvalidRoomName: The name is not valid.
            MessageError: The record is larger, encoded, than 1 KiB.
            RegistrationError: Another route of this process has declared another history for the room.
            TypeError: JSON cannot represent a message, or the record.
            ValueError: The connection's user is not a valid name (:func:`..names.check_user_name`), or ``recent`` is
                below zero.
            falcon.WebSocketDisconnected: The connection has ended.
        """
        check_room_name(room)
        if connection.user is not None:
            check_user_name(connection.user)
        self._registry.enforcement.check_join(connection, room)
        joining = leaving = None
        if join_message is not None:
            joining = Publication.to_room(join_message, (connection.id,))
        if leave_message is not None:
            # NOTE: the user does not receive it either, after reconnecting, among the missed messages.
            users = (connection.user,) if connection.user else ()
            leaving = Publication.to_room(leave_message, (), users)
        batch = connection._config.presence_batch
        reconnects = bool(connection._since)
        presence = Presence(
            connection.id,
            connection.user,
            joining,
            leaving,
            batch,
            reconnects=reconnects,
            recent=check_recent(recent),
            record=encode_record(meta),
        )
        if connection.id in self._registry.pending:
            # PERF: the count of all processes is asked together with the subscription, and known after on_connect.
            self._registry.users.reserve(connection)
        return await self._registry.join(connection, room, presence)

    async def update_presence(
        self, connection: Connection, room: str, meta: object, *, message: object = None
    ) -> None:
        """Replace the record of a connection in a room.

        Lists that are read from now on contain it. During an outage of Redis the record is stored after it.

        Args:
            connection: The connection, which is in the room.
            room: The room.
            meta: The record, as for :meth:`join_room`; ``None`` removes it.
            message: Sent to the other members, in the order and the history of the room. A list that is read
                after its delivery contains the record. In ``on_connect`` it is deferred until the accept.

        Raises:
            BackendUnavailable: Redis is unavailable: the message may not have arrived, and is not repeated.
                Without a message nothing is raised.
            LookupError: The connection is not in the room.
            MessageError: The record is larger, encoded, than 1 KiB; nothing has changed.
            OutboxFull: ``on_connect`` has sent more than the limits allow.
            TypeError: JSON cannot represent the record or the message; nothing has changed.
        """
        record, update = encode_record(meta), None
        if message is not None:
            update = Publication.to_room(message, (connection.id,))
            update.change = MemberChange(room, connection.user, ChangeKind.UPDATED)
        presence = self._registry.presence_of(connection, room)
        if presence is None:
            raise LookupError(f"the connection is not in room {room!r:.60}: let it join first")
        presence.set_record(record)
        if connection._transaction is None:
            await self.backend.update(room, presence, update)
        elif update is not None:
            connection._transaction.defer(room, update, ephemeral=False)

    async def leave_room(self, connection: Connection, room: str) -> bool:
        """Remove a connection from a room.

        Returns:
            Whether its user was visible in the room and no longer is.
        """
        return await self._registry.leave(connection, room)


def check_recent(recent: int) -> int:
    """Return a number of messages if it can be used.

    Raises:
        ValueError: It is below zero.
    """
    if recent < 0:
        raise ValueError(f"recent is {recent!r}: give a number of messages, or 0 for none")
    return recent


def ids_of(connections: Collection[Connection]) -> tuple[str, ...]:
    """Return the ids of connections."""
    return tuple(connection.id for connection in connections)

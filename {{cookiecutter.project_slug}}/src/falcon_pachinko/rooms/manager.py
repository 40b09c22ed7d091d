"""Every connection of a process, the rooms they are in, and the way to those of other processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence

import msgspec
from falcon import WebSocketDisconnected

from ..backends.base import Backend, Presence
from ..backends.memory import MemoryBackend
from ..connection.connection import Connection
from ..errors import BackendUnavailable
from ..history import Position
from ..publication import DEFAULT_HEADER, Header, Publication, position_message
from ..support.tasks import TaskSet
from .fanout import Audience
from .membership import Rooms, check_room_name

logger = logging.getLogger(__name__)


class WebSocketConnectionManager:
    """Sends to rooms, to users, to everybody and to single connections; ``app.ws_connection_manager``.

    A message is encoded once, however many get it. Sending to many never waits for a client and never
    raises because of one. Rooms and users are those of all processes that share a backend; iterating
    goes over the connections of this one that ``on_connect`` has accepted.

    Args:
        backend: What joins this process with others. By default there are no others.
    """

    def __init__(self, backend: Backend | None = None) -> None:
        self.backend = backend or MemoryBackend()
        self.backend.node = self
        self.connections: dict[str, Connection] = {}
        self.users = Users()
        self.newcomers: dict[str, Connection] = {}
        """Those in rooms whose ``on_connect`` has not accepted yet."""
        self.rooms: Rooms[Connection, Audience, Presence] = Rooms(Audience)
        self.unplaced: Rooms[Connection, Audience, Presence] = Rooms(Audience)
        """Those who came while the engine was away; before they hear a room they are told what they missed."""
        self.background = TaskSet()
        self.emptied: asyncio.Event | None = None

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self.connections.values()))

    def __len__(self) -> int:
        return len(self.connections)

    # What applications call.

    async def broadcast_to_room(
        self,
        room: str,
        message: object,
        *,
        exclude: Collection[Connection] = (),
        exclude_users: Collection[str] = (),
        ephemeral: bool = False,
    ) -> None:
        """Send a message to all members of a room.

        Args:
            room: Nobody need be in it.
            message: A :class:`~falcon_pachinko.messages.Message` or anything that JSON can hold.
            exclude: Connections that do not get it.
            exclude_users: Users who do not get it.
            ephemeral: Who is not there at this moment never gets it: it is left out of the room's history.

        Raises:
            BackendUnavailable: The engine is away; it may not have arrived.
            LeaseLost: A worker that another one has replaced has said it.
            TypeError: The message holds something that JSON cannot; nobody got it.
        """
        entry = Publication.to_room(message, ids_of(exclude), exclude_users)
        await self.backend.publish(room, entry, ephemeral=ephemeral)

    async def broadcast_to_all(
        self, message: object, *, exclude: Collection[Connection] = ()
    ) -> None:
        """Send a message to all connections, at most once; otherwise like :meth:`broadcast_to_room`."""
        await self.backend.publish_direct(Publication.to_room(message, ids_of(exclude)))

    async def send_to_user(self, user: str, message: object) -> None:
        """Send a message to all connections of a user, at most once.

        Raises:
            BackendUnavailable: The engine is away; it may not have arrived.
            TypeError: The message holds something that JSON cannot.
        """
        await self.backend.publish_direct(Publication.direct(message, user=user))

    async def send_to_connection(self, connection_id: str, message: object) -> bool:
        """Send a message to one connection by its id, at most once.

        Returns:
            ``False`` when it is not there (any more). ``True`` for one of another process says that the
            process has been told.

        Raises:
            BackendUnavailable: It is none of this process, and the engine is away.
            TypeError: The message holds something that JSON cannot.
        """
        entry = Publication.direct(message, connection=connection_id)
        connection = self.connections.get(connection_id)
        if connection is not None and not connection.closed:
            self.deliver_direct(entry)
            return True
        if connection_id.startswith(self.backend.node_id):
            return False
        return await self.backend.publish_direct(entry) > 0

    async def disconnect_user(self, user: str, code: int = 1000, reason: str = "") -> None:
        """Close all connections of a user.

        Args:
            user: Whose.
            code: The close code.
            reason: A sentence for people, cut off at 123 bytes of UTF-8.

        Raises:
            BackendUnavailable: The engine is away; they may still be open.
            ValueError: The code is not one that an endpoint may send.
        """
        await self.backend.publish_direct(Publication.close(code, reason, user=user))

    async def close_room(self, room: str, code: int = 1000, reason: str = "") -> None:
        """Close all connections that are in a room; otherwise like :meth:`disconnect_user`."""
        await self.backend.publish(room, Publication.close(code, reason), ephemeral=True)

    async def get_rooms_by_prefix(self, prefix: str) -> list[str]:
        """The names of all rooms that begin with the prefix and have somebody in them, sorted.

        Raises:
            BackendUnavailable: The engine is away.
        """
        return await self.backend.rooms(prefix)

    async def members(self, room: str) -> list[str]:
        """The users in a room, each once, in the order in which they came.

        While the engine is away they are those of this process.
        """
        return await self.backend.members(room)

    async def join_room(
        self,
        connection: Connection,
        room: str,
        *,
        join_message: object = None,
        leave_message: object = None,
    ) -> bool:
        """Put a connection into a room.

        Args:
            connection: Whose user counts as the one who comes.
            room: Need not be there before.
            join_message: What the others in the room are told when the user comes: with the first connection, and
                not before ``on_connect`` has accepted it.
            leave_message: What they are told when the user has gone: at once after :meth:`leave_room`; when the last
                connection has just ended, after the backend's ``grace_seconds`` without another one. It is
                told even if this process dies.

        Returns:
            Whether the user was not visibly in the room before; joining again gives ``False``.

        Raises:
            InvalidRoomName: A room cannot have this name.
            TypeError: A message holds something that JSON cannot.
            ValueError: The connection's user is not valid Unicode text.
            falcon.WebSocketDisconnected: The connection's life is over.
        """
        check_room_name(room)
        check_user(connection.user)
        if connection.finished:
            raise WebSocketDisconnected(connection.close_code)
        if self.has(connection, room):
            return False
        presence = Presence(
            connection.id,
            connection.user,
            None if join_message is None else Publication.to_room(join_message, (connection.id,)),
            # NOTE: nor is a user told so who comes back later and is given what was said meanwhile.
            None
            if leave_message is None
            else Publication.to_room(
                leave_message, (), [connection.user] if connection.user else ()
            ),
        )
        since = connection.since
        await self.backend.subscribe(room, connection.history)
        try:
            missed, is_placed = await self.missed(connection, room, since), True
        except BackendUnavailable:
            missed, is_placed = None, False
        except BaseException:
            self.backend.unsubscribe(room)
            raise
        # NOTE: from there to the position nothing waits, or something would be said in between.
        if connection.finished or self.has(connection, room):
            self.backend.unsubscribe(room)
            if connection.finished:
                raise WebSocketDisconnected(connection.close_code)
            return False
        (self.rooms if is_placed else self.unplaced).join(connection, room, presence)
        if is_placed:
            self.tell_position(connection, room, since, missed)
        if connection.visible:
            return await self.backend.enter(room, presence)
        self.newcomers[connection.id] = connection
        return connection.user is None or not await self.backend.present(room, connection.user)

    async def leave_room(self, connection: Connection, room: str) -> bool:
        """Take a connection out of a room.

        Returns:
            Whether its user was visibly in the room and is not any more.
        """
        if not self.has(connection, room):
            return False
        presence = self.take_out(connection, room)
        gone = self.backend.leave(room, presence, grace=False) if connection.visible else None
        self.backend.unsubscribe(room)
        return gone is not None and await gone

    # What resources call.

    async def add(self, connection: Connection) -> None:
        """Make an accepted connection known."""
        self.newcomers.pop(connection.id, None)
        self.connections[connection.id] = connection
        self.users.add(connection)
        self.rooms.renew(connection)
        self.forget_since(connection)
        # NOTE: all of them have been said before the first answer comes.
        answers = [
            self.backend.enter(room, presence)
            for room, presence in self.rooms_of(connection).items()
        ]
        for answer in answers:
            await answer

    def forget(self, connection: Connection) -> None:
        """Take a connection out of everything; from now on it cannot come back."""
        connection.finished = True
        self.newcomers.pop(connection.id, None)
        self.connections.pop(connection.id, None)
        self.users.forget(connection)
        for room in self.rooms_of(connection):
            presence = self.take_out(connection, room)
            if connection.visible:
                self.backend.leave(room, presence, grace=True)
            self.backend.unsubscribe(room)
        if self.emptied is not None and not self.connections:
            self.emptied.set()

    async def wait_empty(self) -> None:
        """Wait until every connection has said goodbye, as long as their limits let them take."""
        seconds = [c.limits.on_disconnect_seconds + c.limits.close_seconds for c in self]
        if seconds:
            self.emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.emptied.wait(), max(seconds))

    # What the backend calls.

    def deliver(self, room: str, entry: Publication) -> None:
        """Give an entry to the members of a room who are here."""
        audience = self.rooms.audience(room)
        if audience is None:
            return
        if entry.header.close_code:
            self.close_each(self.rooms.members(room), entry)
        elif entry.header is DEFAULT_HEADER:
            audience.send(entry)
        else:
            audience.send(entry, self.excluded_by(entry.header))

    def deliver_direct(self, entry: Publication) -> None:
        """Give an entry to those whom its address names, or to everybody."""
        header = entry.header
        named: tuple[Connection, ...]
        if header.connection is not None:
            named = tuple(c for c in [self.connections.get(header.connection)] if c is not None)
        elif header.user is not None:
            named = self.users.connections_of(header.user)
            if header.close_code:
                # NOTE: whoever is about to be let in is to be closed too.
                named += tuple(c for c in self.newcomers.values() if c.user == header.user)
        else:
            named = tuple(self)
        if header.close_code:
            self.close_each(named, entry)
        else:
            Audience(named).send(entry, self.excluded_by(header))

    def on_history_lost(self, room: str) -> None:
        """Tell the members who are here where the room stands, and that something is missing before that."""
        position = self.backend.position(room)
        if position is not None:
            logger.warning("messages of room %r are missing: its clients are told so", room)
            for connection in self.rooms.members(room):
                if connection.history is not None:
                    connection.deliver(position_message(connection.id, position, recovered=False))

    def on_resync(self, room: str) -> None:
        """Tell those who came while the engine was away what they missed, and where the room stands."""
        for connection in self.unplaced.members(room):
            entries = self.backend.recover_local(room, connection.since)
            self.rooms.join(connection, room, self.unplaced.leave(connection, room))
            self.tell_position(connection, room, connection.since, fitting(connection, entries))
            self.forget_since(connection)

    def forget_since(self, connection: Connection) -> None:
        """Where a client left off counts for the rooms of ``on_connect``; in those of later it was not."""
        if connection.visible and not self.unplaced.rooms_of(connection):
            connection.since = ()

    # The steps of all these.

    async def missed(
        self, connection: Connection, room: str, since: Sequence[Position]
    ) -> list[Publication] | None:
        """What a client that has come back has missed; ``None`` where it cannot be had as a whole.

        Raises:
            BackendUnavailable: It is not known before the engine is back.
        """
        if connection.history is None:
            return None
        if self.backend.position(room) is None:
            raise BackendUnavailable("nobody knows where the room stands")
        if not since:
            return None
        return fitting(connection, await self.backend.recover(room, since))

    def has(self, connection: Connection, room: str) -> bool:
        """Whether a connection is in a room."""
        return self.rooms.has(connection, room) or self.unplaced.has(connection, room)

    def rooms_of(self, connection: Connection) -> dict[str, Presence]:
        """The rooms of a connection."""
        return self.rooms.rooms_of(connection) | self.unplaced.rooms_of(connection)

    def take_out(self, connection: Connection, room: str) -> Presence:
        """Take a connection out of a room of this process."""
        placed = self.rooms.has(connection, room)
        return (self.rooms if placed else self.unplaced).leave(connection, room)

    def tell_position(
        self,
        connection: Connection,
        room: str,
        since: Sequence[Position],
        missed: list[Publication] | None,
    ) -> None:
        """Give a client what it has missed, and where a room with history stands."""
        position = self.backend.position(room)
        if position is None or connection.history is None:
            return
        for outgoing in missed or ():
            connection.deliver(outgoing)
        recovered = missed is not None if since else msgspec.UNSET
        connection.deliver(position_message(connection.id, position, recovered))

    def excluded_by(self, header: Header) -> list[Connection]:
        """The connections of this process that do not get something."""
        if not (header.exclude_connections or header.exclude_users):
            return []
        found = [
            self.connections.get(id) or self.newcomers.get(id) for id in header.exclude_connections
        ]
        excluded = [connection for connection in found if connection is not None]
        for user in header.exclude_users:
            excluded += self.users.connections_of(user)
            excluded += [c for c in self.newcomers.values() if c.user == user]
        return excluded

    def close_each(self, connections: Collection[Connection], entry: Publication) -> None:
        """Close connections behind what was sent to them."""
        code, reason = entry.header.close_code, entry.data.decode()
        for connection in connections:
            self.background.create_task(connection.close(code, reason))


class Users:
    """The connections of each user, as it was when they were accepted."""

    def __init__(self) -> None:
        self.user_of: dict[Connection, str] = {}
        self.connections: dict[str, dict[Connection, None]] = {}

    def add(self, connection: Connection) -> None:
        """Note whose connection it is."""
        if connection.user is not None:
            self.user_of[connection] = connection.user
            self.connections.setdefault(connection.user, {})[connection] = None

    def forget(self, connection: Connection) -> None:
        """Forget a connection."""
        user = self.user_of.pop(connection, None)
        if user is not None:
            of_user = self.connections[user]
            del of_user[connection]
            if not of_user:
                del self.connections[user]

    def connections_of(self, user: str) -> tuple[Connection, ...]:
        """All of one user."""
        return tuple(self.connections.get(user, ()))


def check_user(user: str | None) -> None:
    """Refuse a user of whom no engine can be told, before anything is done.

    Raises:
        ValueError: It is one.
    """
    try:
        (user or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"user {user!r} is not valid Unicode text") from None


def fitting(connection: Connection, entries: list[Publication] | None) -> list[Publication] | None:
    """What a client gets of what it has missed; ``None`` where that is not there or too much."""
    if entries is None:
        return None
    found = [entry for entry in entries if entry.is_for(connection.previous_id, connection.user)]
    # NOTE: half of what may wait for a client, or it would be given up for what it is given, in all its rooms together.
    limits, (count, size_bytes) = connection.limits, connection.backlog
    size_bytes += sum(each.size_bytes for each in found)
    fits = size_bytes <= limits.outbox_bytes // 2
    return found if fits and count + len(found) <= limits.outbox_messages // 2 else None


def ids_of(connections: Collection[Connection]) -> tuple[str, ...]:
    """The ids of connections."""
    return tuple(connection.id for connection in connections)

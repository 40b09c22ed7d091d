"""The base class of WebSocket resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import falcon.asgi
import msgspec

from .backends.once import OnceRun, RequestKey
from .connection.connection import Connection
from .connection.hooks import HookMethods
from .connection.replies import send_error
from .connection.requests import ClientRequests, result_of
from .connection.state import CONNECTING
from .connection.websocket_like import WebSocketLike
from .errors import InvalidPayload, MessageError
from .history import MAX_POSITION_CHARACTERS, History, Position
from .limits import DEFAULT_LIMITS, Limits
from .messages import Message
from .names import check_room_name
from .presence import MemberPage
from .publication import Publication
from .rooms.activity import EXPIRY_SECONDS, REPEAT_SECONDS, Activity
from .rooms.authorization import JOIN, require
from .rooms.manager import WebSocketConnectionManager

# What the position and the time of a message take at most: ,"id":"...","at":1732700000000
ID_BYTES = MAX_POSITION_CHARACTERS + 28


class WebSocketResource(HookMethods):
    """The behaviour of one route's connections. Each connection has a resource object of its own.

    Override ``on_connect``, ``on_disconnect``, ``authorize``, ``around``, ``on_unhandled`` and ``on_invalid`` as needed,
    and mark handlers with ``@handles_message``. One message is handled at a time.

    Attributes:
        limits: The bounds of this class's connections, unless the route sets its own.
        history: The history of the rooms that its connections join, unless the route sets its own; none by
            default. Messages of such a room carry their position as ``id``, which a reconnecting client
            passes as ``since``.
        sends: The messages that its clients receive, from any sender: subclasses of
            :class:`~falcon_pachinko.messages.Message`, and ``bytes`` for binary messages; replies need not be listed.
            The contract lists them, and the test kit reports others; nothing checks them in production.
        closes: The class's own close codes with their meaning, for the contract.
        connection: The connection (the ``ws`` of handlers).
        manager: The application's connection manager.
        request_key: In a handler with ``once``: what identifies its request, which is the same when it is sent again;
            ``None`` outside, and for a request without a ``ref`` or of a client without an id.
    """

    limits: ClassVar[Limits] = DEFAULT_LIMITS
    history: ClassVar[History | None] = None
    sends: ClassVar[Sequence[type[Message] | type[bytes]]] = ()
    closes: ClassVar[Mapping[int, str]] = {}
    connection: Connection
    manager: WebSocketConnectionManager
    request_key: RequestKey | None = None
    _run: OnceRun | None = None

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        """Decide whether to accept; the fields of the route's URI template are keyword arguments.

        This is a transaction. Messages are buffered; messages of a joined room are received, but the room
        does not see the connection; broadcasts are deferred. ``True`` accepts: the client's own messages
        are sent in order, then the messages of its rooms, and then the broadcasts are published.
        ``False`` (HTTP 403), an exception, more than ``limits.on_connect_seconds`` or a disconnect undo
        everything without visible effect. Calls of ``self.manager`` are not part of the transaction. Raise
        :class:`~falcon_pachinko.errors.Reject` to refuse with a close code that a browser can see.
        """
        return True

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        """Called exactly once when an accepted connection ends, before it leaves its rooms.

        It has ``limits.on_disconnect_seconds`` and is shielded from the server's shutdown.

        Args:
            close_code: The code of our close, otherwise the server's (RFC 6455 section 7.4).
        """

    async def on_resync(self, ws: WebSocketLike, room: str) -> None:
        """Called when the client may have missed changes of a room's members: send a new snapshot of them.

        This happens after an outage of Redis, after a loss of its data, and with each ``recovered: false``;
        never during normal operation. It may run at the same time as a handler. It has
        ``limits.handler_seconds``; an exception is logged, and the connection stays open.

        Args:
            ws: The connection.
            room: The room.
        """

    async def on_unhandled(self, ws: WebSocketLike, message: str | bytes) -> None:
        """Reply to a message that is not JSON, has an unknown type, or is binary without a handler."""
        await send_error(ws, "unknownMessage", "Unrecognized message format or type.", message)

    async def on_invalid(
        self, ws: WebSocketLike, message: str | bytes, error: InvalidPayload
    ) -> None:
        """Reply to a message of a known type with an invalid payload."""
        where = f" in '{error.field}'" if error.field else ""
        text = f"{error.message_type} has an invalid payload{where}: {error.reason}."
        field = error.field or msgspec.UNSET
        await send_error(ws, "invalidPayload", text, message, field=field)

    async def authorize(self, user: Any, action: str, room: str | None) -> bool:
        """Decide whether a user may act in a room; the base class allows everything, at no cost.

        Called by :meth:`join_room` with ``join``, again for each room when the session is refreshed, and before
        each handler with an ``action``. A refusal is a :class:`~falcon_pachinko.errors.Forbidden`; raise one
        for a text of your own.

        Args:
            user: The connection's ``identity``; at a refresh the new one.
            action: ``join``, ``send``, ``moderate``, or a name of your own.
            room: The room; ``None`` for a message of a connection without a room.
        """
        return True

    async def join_room(
        self,
        room: str,
        *,
        join_message: object = None,
        leave_message: object = None,
        meta: object = None,
        recent: int = 0,
    ) -> bool:
        """Join a room that :meth:`authorize` permits; see :meth:`.WebSocketConnectionManager.join_room`.

        Raises:
            Forbidden: The user may not join the room.
        """
        if type(self).authorize is not WebSocketResource.authorize:
            await require(self, JOIN, check_room_name(room), self.connection.identity)
        return await self.manager.join_room(
            self.connection,
            room,
            join_message=join_message,
            leave_message=leave_message,
            meta=meta,
            recent=recent,
        )

    async def position(self, room: str) -> Position | None:
        """Return the position of the last message that this client gets before a snapshot of the caller's own.

        It joins a snapshot to the messages of a room: call it after :meth:`join_room` and before reading, for
        example, a database, into which each message is written before it is sent. Then nothing is missing: the snapshot
        contains all messages up to the position, and the client gets all later ones after it. One of these may be in the
        snapshot as well, unless nothing awaits between this call and the reading: the client recognises it by an id in
        its payload. In ``on_connect``, the messages up to the position are not delivered, or before the snapshot to a
        client that has missed some.

        Returns:
            The position; ``None`` without a history, or during an outage of Redis, after which ``on_resync`` is called.
        """
        position = self.manager.backend.position(room)
        if position is not None and self.connection._transaction is not None:
            self.connection._transaction.prepare_snapshot(position)
        return position

    async def update_presence(self, room: str, meta: object, *, message: object = None) -> None:
        """Replace this connection's record in a room; see :meth:`.WebSocketConnectionManager.update_presence`."""
        await self.manager.update_presence(self.connection, room, meta, message=message)

    async def room_members(
        self, room: str, *, after: int | str | None = None, limit: int | None = None
    ) -> MemberPage:
        """Return the users in a room as its members know them at this moment.

        After the list, this client gets exactly the joins, leaves and updates that the list does not contain: nothing
        is delivered between the return and the caller's next ``await``. In ``on_connect``, the messages that a
        reconnecting client has missed are sent before the list, which contains what they change. Otherwise like
        :meth:`.WebSocketConnectionManager.members`.
        """
        page = await self.manager.members(room, after=after, limit=limit)
        if self.connection._transaction is not None:
            self.manager._registry.announcements.catch_up_in(room, self.connection)
            self.connection._transaction.prepare_list(room)
        return page

    def activity(
        self,
        room: str,
        started: object,
        ended: object,
        *,
        repeat_seconds: float = REPEAT_SECONDS,
        expiry_seconds: float = EXPIRY_SECONDS,
    ) -> Activity:
        """Return an activity of this client, such as typing, that the other members of a room see.

        Its client may report it as often as it likes (:meth:`.Activity.report`): the room gets ``started`` at the first
        report, and again while it goes on, so that members who join later learn of it. The room gets ``ended`` after
        :meth:`.Activity.end`, after a time without a report, or when the connection has ended. Both are ephemeral.

        Args:
            room: The room.
            started: The message for the beginning.
            ended: The one for the end.
            repeat_seconds: The shortest time between two messages for the beginning.
            expiry_seconds: How long the activity lasts after a report. Members that get neither message for so long
                may assume the end, too: the process may have died.

        Raises:
            TypeError: JSON cannot represent a message.
            ValueError: A time is not a finite number above zero.
        """
        messages, seconds = (started, ended), (repeat_seconds, expiry_seconds)
        activities = self.manager._registry.activities
        return Activity(activities, self.connection, room, messages, *seconds)

    async def request(
        self,
        message_type: str,
        payload: object,
        timeout_seconds: float = 10.0,
        *,
        result_type: Any = Any,
    ) -> Any:
        """Ask this connection's client, and return the result of its reply (`clientReply`).

        A handler may wait for it: the reply is taken when it is read, before the messages that wait for the handler.
        It is not read while ``limits.inbox_messages`` others wait.

        Args:
            message_type: The type of the message; its client gets it with a ``ref``.
            payload: An object that JSON can represent.
            timeout_seconds: The longest wait, which is part of ``limits.handler_seconds`` in a handler.
            result_type: A type that msgspec can decode, such as a struct; any object by default.

        Raises:
            RequestError: There is no reply in time, it is an error, or its result has another type. Raised out of a
                handler, it is sent to the client as ``serverError``.
            RuntimeError: ``on_connect`` has not accepted the connection yet.
            TypeError: JSON cannot represent the payload.
            ValueError: The time is not above zero, or not finite.
            falcon.WebSocketDisconnected: The connection is closed, or has been meanwhile.
        """
        ws = self.connection
        if ws.state is CONNECTING:
            raise RuntimeError("a client cannot reply before on_connect has accepted it")
        if ws._requests is None:
            ws._requests = ClientRequests(ws._inbox)
        reply = await ws._requests.ask(ws, message_type, payload, timeout_seconds)
        return result_of(reply, message_type, result_type)

    async def leave_room(self, room: str) -> bool:
        """Leave a room; see :meth:`.WebSocketConnectionManager.leave_room`."""
        return await self.manager.leave_room(self.connection, room)

    async def broadcast_to_room(
        self,
        room: str,
        message: object,
        exclude_self: bool = False,
        *,
        exclude_user: bool = False,
        ephemeral: bool = False,
    ) -> Position | None:
        """Send a message to all members of a room; in ``on_connect`` it is deferred until the accept.

        Args:
            room: The room; it may be empty.
            message: A :class:`~falcon_pachinko.messages.Message` or any object that JSON can represent.
            exclude_self: Exclude this connection.
            exclude_user: Exclude all connections of this connection's user.
            ephemeral: Do not store it in the room's history.

        Returns:
            The position of the message in the room; ``None`` for an ephemeral or a deferred one; in one
            process also without a history.

        Raises:
            BackendUnavailable: Redis is unavailable; the message may not have arrived. Raised out of a
                handler, it is sent to its client as ``serverError``.
            MessageError: The message is larger, encoded, than ``limits.outbox_bytes``: it would close every
                member that is slow at this moment. JSON may take six times the bytes of a text.
            OutboxFull: ``on_connect`` has sent more than the limits allow.
            TypeError: JSON cannot represent the message; it was not sent.
        """
        ws = self.connection
        users = () if ws.user is None or not exclude_user else (ws.user,)
        publication = Publication.to_room(message, (ws.id,) if exclude_self else (), users)
        if publication.size_bytes + ID_BYTES > ws._config.limits.outbox_bytes:
            raise MessageError("The message is too large.", code="messageTooLarge")
        if ws._transaction is not None:
            ws._transaction.defer(room, publication, ephemeral)
            return None
        publish = self.manager.backend.publish_nowait
        # PERF: most messages, without an argument that they do not need.
        if ephemeral or self._run is None:
            return await publish(room, publication, ephemeral=ephemeral)
        return await publish(room, publication, run=self._run)

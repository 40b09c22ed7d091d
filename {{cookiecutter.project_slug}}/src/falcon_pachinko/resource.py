"""The base of WebSocket resources: a fresh one lives the life of one connection."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import falcon.asgi
import msgspec
from falcon import WebSocketDisconnected

from .close_codes import (
    ABNORMAL_CLOSURE,
    FORBIDDEN,
    INTERNAL_ERROR,
    MESSAGE_TOO_BIG,
    SERVICE_RESTART,
    TOO_MANY_MESSAGES,
    close_code_of,
    is_disconnect,
)
from .connection.connection import Connection
from .connection.rate_limit import TokenBucket
from .connection.shield import run_to_end
from .errors import BackendUnavailable, InvalidPayload, MessageError, Reject
from .handlers import HandlerTable
from .history import History
from .limits import DEFAULT_LIMITS, Limits
from .messages import Message, ServerError, size_bytes_of
from .publication import Publication
from .rooms.manager import WebSocketConnectionManager
from .types import WebSocketLike

logger = logging.getLogger(__name__)


class WebSocketResource:
    """What one route does with a connection. Each connection gets a resource object of its own.

    Override ``on_connect``, ``on_disconnect``, ``on_unhandled`` and ``on_invalid`` as needed and mark
    handlers with ``@handles_message``. One message is handled at a time.

    Attributes:
        limits: The bounds of this class's connections.
        history: What the rooms keep that this class's connections join, for clients that come back; nothing
            by default. All who join a room declare the same. Messages of such a room carry their position
            as ``id``, which a client gives as ``since`` when it comes back.
        sends: What clients of this class are told, by whomever: classes derived from
            :class:`~falcon_pachinko.messages.Message`, and ``bytes`` for binary messages. The contract
            shows them, and the test kit finds what is sent without being declared; nothing looks at it
            while messages are sent.
        closes: The close codes of this class's own with their meaning, for the contract.
        connection: The connection (the ``ws`` of the handlers).
        manager: The application's manager.
    """

    limits: ClassVar[Limits] = DEFAULT_LIMITS
    history: History | None = None
    sends: ClassVar[Sequence[type[Message] | type[bytes]]] = ()
    closes: ClassVar[Mapping[int, str]] = {}
    table: ClassVar[HandlerTable]
    connection: Connection
    manager: WebSocketConnectionManager

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        """Decide whether to accept; the fields of the route's template come as keyword arguments.

        It is a transaction. What is sent is held back, a joined room is heard but does not see the
        newcomer, broadcasts of this resource are put off. ``True`` accepts: own messages leave in order,
        then what the rooms said meanwhile, and then the broadcasts are made. ``False`` (HTTP 403), an exception, more
        than ``limits.on_connect_seconds`` or a client that gave up undo all, and nobody has seen anything.
        Calls to ``self.manager`` are not part of the transaction. Raise
        :class:`~falcon_pachinko.errors.Reject` to refuse with a code that a browser can see.
        """
        return True

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        """Say goodbye: called once for each accepted connection, however it ends; rooms are left afterwards.

        It has ``limits.on_disconnect_seconds`` and is not disturbed by the server's shutdown.

        Args:
            close_code: The code that we closed with, else what the server reported (RFC 6455 section 7.4).
        """

    async def on_unhandled(self, ws: WebSocketLike, message: str | bytes) -> None:
        """Answer a message that is not JSON, has no known type, or is binary where nobody handles that."""
        await answer(
            ws, ServerError(code="unknownMessage", error="Unrecognized message format or type.")
        )

    async def on_invalid(
        self, ws: WebSocketLike, message: str | bytes, error: InvalidPayload
    ) -> None:
        """Answer a message of a known type whose payload does not fit."""
        where = f" in '{error.field}'" if error.field else ""
        text = f"{error.message_type} has a bad payload{where}: {error.reason}."
        await answer(
            ws, ServerError(code="invalidPayload", error=text, field=error.field or msgspec.UNSET)
        )

    async def join_room(
        self, room: str, *, join_message: object = None, leave_message: object = None
    ) -> bool:
        """Join a room; see :meth:`WebSocketConnectionManager.join_room`."""
        return await self.manager.join_room(
            self.connection, room, join_message=join_message, leave_message=leave_message
        )

    async def leave_room(self, room: str) -> bool:
        """Leave a room; see :meth:`WebSocketConnectionManager.leave_room`."""
        return await self.manager.leave_room(self.connection, room)

    async def broadcast_to_room(
        self,
        room: str,
        message: object,
        exclude_self: bool = False,
        *,
        exclude_user: bool = False,
        ephemeral: bool = False,
    ) -> None:
        """Send a message to all members of a room; ``on_connect`` puts it off until it has accepted.

        Args:
            room: Nobody need be in it.
            message: A :class:`~falcon_pachinko.messages.Message` or anything that JSON can hold.
            exclude_self: Leave out this connection.
            exclude_user: Leave out all connections of this connection's user.
            ephemeral: Who is not there at this moment never gets it: it is left out of the room's history.

        Raises:
            BackendUnavailable: The engine is away; it may not have arrived. A handler that lets this out
                has its client told so.
            OutboxFull: ``on_connect`` has said more than may wait.
            TypeError: The message holds something that JSON cannot; nobody got it.
        """
        ws = self.connection
        users = () if ws.user is None or not exclude_user else (ws.user,)
        entry = Publication.to_room(message, (ws.id,) if exclude_self else (), users)
        if ws.held is not None:
            ws.held.defer(room, entry, ephemeral, ws.limits)
        else:
            await self.manager.backend.publish(room, entry, ephemeral=ephemeral)

    @classmethod
    def handler_table(cls) -> HandlerTable:
        """What the wire can reach in this class; compiled when it is first asked for.

        Raises:
            RegistrationError: A handler cannot work as it is written.
        """
        table = vars(cls).get("table")
        if not isinstance(table, HandlerTable):
            table = cls.table = HandlerTable(cls)
        return table

    async def live(self, req: falcon.asgi.Request, params: dict[str, Any]) -> None:
        """The whole life of the connection; the framework calls it once."""
        ws = self.connection
        try:
            if await self.connect(req, params):
                # PERF: a task of its own is woken directly; here each message would pass nine coroutines of
                #   the server, Falcon and ours on its way in.
                await asyncio.create_task(self.listen())
        except Reject as refusal:
            await ws.reject(refusal.code, refusal.reason)
        except Exception as error:
            if ws.closed and is_disconnect(error):
                ws.inbox.open()
                while ws.close_code is None and await ws.inbox.next() is not None:
                    pass  # the server's word on how the client ended comes behind what it said
            else:
                # NOTE: Falcon's error handlers close with this code once on_disconnect has run.
                ws.close_code = ws.close_code or close_code_of(error)
                if isinstance(error, WebSocketDisconnected):
                    raise RuntimeError("sent to another connection, which is closed") from error
                raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            ws.close_code = ws.close_code or INTERNAL_ERROR
            raise RuntimeError("a CancelledError came out, though nobody cancels") from error
        finally:
            try:
                if ws.visible:
                    await self.disconnect()
            finally:
                self.manager.forget(ws)

    async def connect(self, req: falcon.asgi.Request, params: dict[str, Any]) -> bool:
        """Run ``on_connect`` as a transaction; say whether the connection is open now."""
        ws = self.connection
        if not ws.handshake_answered:
            ws.inbox.watch()
        accepted = None
        try:
            async with asyncio.timeout(self.limits.on_connect_seconds) as deadline:
                accepted = await self.on_connect(req, ws, **params)
        except TimeoutError:
            if not deadline.expired():
                raise
            logger.warning(
                "%s.on_connect took more than %s s",
                type(self).__name__,
                self.limits.on_connect_seconds,
            )
        finally:
            await ws.inbox.stop_watching()
        if deadline.expired():
            accepted = False
        elif accepted is None:
            logger.warning(
                "%s.on_connect returned None: return True to accept", type(self).__name__
            )
        if not accepted or ws.closed:
            await ws.close(FORBIDDEN if ws.handshake_answered else None)
            return False
        held = await ws.open()
        if held is None:
            return False
        for outgoing in held.heard:
            ws.deliver(outgoing)
        await self.manager.add(ws)
        try:
            for room, entry, ephemeral in held.deferred:
                await self.manager.backend.publish(room, entry, ephemeral=ephemeral)
        except BackendUnavailable as error:
            await answer(ws, ServerError(code=error.code, error=error.text))
        return True

    async def listen(self) -> None:
        """Give one message after the other to its handler, until the connection has ended."""
        ws, table, limits = self.connection, self.handler_table(), self.connection.limits
        ws.inbox.open()
        next_message, now = ws.inbox.next, asyncio.get_running_loop().time
        bucket = None
        if limits.messages_per_second < math.inf:
            bucket = TokenBucket(limits.messages_per_second, limits.message_burst, now())
        # PERF: a character has 4 bytes of UTF-8 at most, so the size of a short message need not be known.
        short = limits.max_message_bytes // 4
        while (message := await next_message()) is not None:
            if len(message) > short and size_bytes_of(message) > limits.max_message_bytes:
                await ws.close(MESSAGE_TOO_BIG, f"at most {limits.max_message_bytes} bytes")
                return
            if bucket is not None and not bucket.take(now()):
                await self.hold_off(bucket)
                continue
            # PERF: a method of its own for what follows would be one more coroutine for each message.
            try:
                if isinstance(message, str):
                    if (found := table.decode(message)) is not None:
                        handler, payload = found
                        await handler(self, ws, payload)
                        continue
                elif table.binary is not None:
                    await table.binary(self, ws, message)
                    continue
                await self.on_unhandled(ws, message)
            except InvalidPayload as error:
                await self.on_invalid(ws, message, error)
            except MessageError as error:
                await answer(ws, ServerError(code=error.code, error=error.text))

    async def hold_off(self, bucket: TokenBucket) -> None:
        """Tell a client that it sends too fast; close it if it goes on."""
        if bucket.exhausted:
            await self.connection.close(TOO_MANY_MESSAGES, "too many messages")
        else:
            text = f"Too many messages: wait {bucket.empty_seconds:.1f} s."
            await answer(self.connection, ServerError(code="tooManyMessages", error=text))

    async def disconnect(self) -> None:
        """Run ``on_disconnect`` to its end, whatever happens to this task meanwhile."""
        ws = self.connection
        code = ws.close_code or (ABNORMAL_CLOSURE if ws.closed else SERVICE_RESTART)
        seconds = self.limits.on_disconnect_seconds
        try:
            await run_to_end(self.on_disconnect(ws, code), seconds)
        except TimeoutError:
            logger.error(
                "%s.on_disconnect took more than %s s and was cancelled",
                type(self).__name__,
                seconds,
            )
        except BackendUnavailable as error:
            logger.warning("%s.on_disconnect was not heard: %s", type(self).__name__, error)
        except Exception:
            logger.exception("%s.on_disconnect failed", type(self).__name__)


async def answer(ws: WebSocketLike, error: ServerError) -> None:
    """Send the framework's own word; a client that has gone is not told, but what it said is still handled."""
    if not ws.closed:
        await ws.send_media(error)

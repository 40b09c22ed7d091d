"""The life of one connection: accept transaction, receive loop, disconnect."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import falcon.asgi
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
from .connection.shield import run_shielded
from .errors import BackendUnavailable, InvalidPayload, MessageError, Reject
from .handlers import HandlerTable
from .messages import ServerError, size_bytes_of
from .resource import WebSocketResource, send_error
from .rooms.registry import ConnectionRegistry

logger = logging.getLogger(__name__)


class Lifecycle:
    """Runs a resource over the life of its connection.

    Args:
        resource: A fresh resource.
        connection: Its connection.
        registry: The connections of this process.
    """

    __slots__ = ("accepted", "connection", "name", "registry", "resource")

    def __init__(
        self, resource: WebSocketResource, connection: Connection, registry: ConnectionRegistry
    ) -> None:
        self.resource = resource
        self.connection = connection
        self.registry = registry
        self.name = type(resource).__name__
        self.accepted = False

    async def run(self, req: falcon.asgi.Request, params: dict[str, Any]) -> None:
        """Run the whole life of the connection; called once."""
        ws = self.connection
        self.registry.add_pending(ws)
        try:
            if await self._connect(req, params):
                # PERF: a task of its own is woken directly; here each message would resume nine
                #   coroutines of the server, of Falcon and of this package.
                await asyncio.create_task(self._receive())
        except Reject as refusal:
            # NOTE: a browser does not see why a handshake was refused, so it is accepted first.
            if not ws.closed:
                await ws._accept_handshake()
                await ws.close(refusal.code, refusal.reason)
        except Exception as error:
            if not (ws.closed and is_disconnect(error)):
                # NOTE: Falcon's error handlers close with this code after on_disconnect.
                ws.close_code = ws.close_code or close_code_of(error)
                if isinstance(error, WebSocketDisconnected):
                    raise RuntimeError(
                        "a message was sent to another, closed connection"
                    ) from error
                raise
            await self._wait_disconnect_event()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            ws.close_code = ws.close_code or INTERNAL_ERROR
            raise RuntimeError("a CancelledError was raised without a cancellation") from error
        finally:
            try:
                if self.accepted:
                    await self._disconnect()
            finally:
                self.registry.remove(ws)

    async def _connect(self, req: falcon.asgi.Request, params: dict[str, Any]) -> bool:
        """Run ``on_connect`` as a transaction; return whether the connection is open."""
        ws = self.connection
        if not await self._run_on_connect(req, params) or ws.closed:
            await ws.close(FORBIDDEN if ws._is_accepted else None)
            return False
        transaction = await ws._open()
        if transaction is None:
            return False
        self.accepted = True
        for publication in transaction.received:
            ws._deliver(publication)
        await self.registry.add(ws)
        try:
            for room, publication, ephemeral in transaction.deferred:
                await self.registry.backend.publish(room, publication, ephemeral=ephemeral)
        except BackendUnavailable as error:
            await send_error(ws, ServerError(code=error.code, error=error.text))
        return True

    async def _run_on_connect(self, req: falcon.asgi.Request, params: dict[str, Any]) -> bool:
        """Run ``on_connect`` with its timeout, detecting a disconnect meanwhile; return its decision."""
        ws, seconds = self.connection, self.connection.limits.on_connect_seconds
        if not ws._is_accepted:
            ws._inbox.start_watching()
        accepted, timeout = None, asyncio.timeout(seconds)
        try:
            async with timeout:
                accepted = await self.resource.on_connect(req, ws, **params)
        except TimeoutError:
            if not timeout.expired():
                raise
            logger.warning("%s.on_connect took more than %s s", self.name, seconds)
        finally:
            await ws._inbox.stop_watching()
        if accepted is None and not timeout.expired():
            logger.warning("%s.on_connect returned None: return True to accept", self.name)
        return bool(accepted) and not timeout.expired()

    async def _receive(self) -> None:
        """Pass one message after the other to its handler until the connection ends."""
        ws, resource, limits = self.connection, self.resource, self.connection.limits
        table = HandlerTable.of(type(resource))
        ws._inbox.start()
        next_message, now = ws._inbox.next, asyncio.get_running_loop().time
        decode, handlers = table.decoder.decode, table.envelopes
        bucket = None
        if limits.messages_per_second < math.inf:
            bucket = TokenBucket(limits.messages_per_second, limits.message_burst, now())
        # PERF: a character has at most 4 bytes of UTF-8, so a short message need not be measured.
        short = limits.max_message_bytes // 4
        while (message := await next_message()) is not None:
            if len(message) > short and size_bytes_of(message) > limits.max_message_bytes:
                await ws.close(MESSAGE_TOO_BIG, f"at most {limits.max_message_bytes} bytes")
                return
            if bucket is not None and not bucket.take(now()):
                await self._limit_rate(bucket)
                continue
            # PERF: a method for the following would be another coroutine per message.
            try:
                if isinstance(message, str):
                    try:
                        envelope = decode(message)
                    except (ValueError, RecursionError) as error:
                        table.check_payload(message, error)
                    else:
                        await handlers[type(envelope)](resource, ws, envelope.payload)
                        continue
                elif table.binary is not None:
                    await table.binary(resource, ws, message)
                    continue
                await resource.on_unhandled(ws, message)
            except InvalidPayload as error:
                await resource.on_invalid(ws, message, error)
            except MessageError as error:
                await send_error(ws, ServerError(code=error.code, error=error.text))

    async def _limit_rate(self, bucket: TokenBucket) -> None:
        """Reply to a message above the rate; close the connection if the client does not slow down."""
        if bucket.exhausted:
            await self.connection.close(TOO_MANY_MESSAGES, "too many messages")
        else:
            text = f"Too many messages: wait {bucket.empty_seconds:.1f} s."
            await send_error(self.connection, ServerError(code="tooManyMessages", error=text))

    async def _wait_disconnect_event(self) -> None:
        """Read until the server's disconnect event, whose code comes after the client's last messages."""
        inbox = self.connection._inbox
        inbox.start()
        while self.connection.close_code is None and await inbox.next() is not None:
            pass

    async def _disconnect(self) -> None:
        """Run ``on_disconnect`` to its end despite a cancellation of this task."""
        ws, seconds = self.connection, self.connection.limits.on_disconnect_seconds
        code = ws.close_code or (ABNORMAL_CLOSURE if ws.closed else SERVICE_RESTART)
        name = f"{self.name}.on_disconnect"
        try:
            await run_shielded(self.resource.on_disconnect(ws, code), seconds, name)
        except TimeoutError:
            logger.error("%s took more than %s s and was cancelled", name, seconds)
        except BackendUnavailable as error:
            logger.warning("%s: a message was not published: %s", name, error)
        except Exception:
            logger.exception("%s failed", name)

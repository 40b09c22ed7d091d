"""The life of one connection: accept transaction, receive loop, disconnect."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import falcon.asgi
from falcon import WebSocketDisconnected
from msgspec import UNSET

from . import close_codes
from .connection.connection import Connection
from .connection.handler_task import HandlerTask
from .connection.identity import EXPIRED
from .connection.rate_limit import MessageRate, address_of
from .connection.replies import send_error, send_reply
from .connection.shield import run_shielded
from .errors import BackendUnavailable, Forbidden, InvalidPayload, MessageError, Reject
from .handlers import HandlerTable
from .messages import size_bytes_of
from .resource import WebSocketResource
from .rooms.registry import ConnectionRegistry

logger = logging.getLogger(__name__)

# The method as it is defined; another one in its place is run.
ON_DISCONNECT = WebSocketResource.on_disconnect


class Lifecycle(HandlerTask):
    """Runs a resource over the life of its connection.

    Args:
        resource: A fresh resource.
        connection: Its connection.
        registry: The connections of this process.
    """

    # NOTE: an idle connection is small, so this is a HandlerTask and does not refer to one.
    __slots__ = ("accepted", "resource")

    registry: ConnectionRegistry

    def __init__(
        self, resource: WebSocketResource, connection: Connection, registry: ConnectionRegistry
    ) -> None:
        super().__init__(connection, type(resource).__name__, registry)
        self.resource = resource
        self.accepted = False

    async def run(self, req: falcon.asgi.Request, params: dict[str, Any]) -> None:
        """Run the whole life of the connection; called once."""
        ws = self.connection
        self.registry.add_pending(ws)
        try:
            # PERF: a task of its own is woken directly; here each message would resume nine
            #   coroutines of the server, of Falcon and of this package.
            try:
                await self.start(self._serve(req, params))
            except asyncio.CancelledError:
                await self.stop()
                raise
            if not self.abandoned:
                self.result()
            elif not ws.closed:
                refused = not self.accepted and ws._is_accepted
                await ws.close(close_codes.FORBIDDEN if refused else close_codes.INTERNAL_ERROR)
        except Reject as refusal:
            # NOTE: a browser does not see why a handshake was refused, so it is accepted first; and it fails where
            #   none of the subprotocols is selected that it has offered.
            if not ws.closed:
                selected, headers = ws._accept_options
                offered = next(iter(req.scope.get("subprotocols") or ()), None)
                ws._accept_options = (selected or offered, headers)
                await ws._accept_handshake()
                await ws.close(refusal.code, refusal.reason)
        except Exception as error:
            if not (ws.closed and close_codes.is_disconnect(error)):
                # NOTE: Falcon's error handlers close, and on_disconnect gets their code.
                ws._before_close = self.disconnect if self.accepted else None
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
            ws._before_close = self.disconnect if self.accepted else None
            raise RuntimeError("a CancelledError was raised without a cancellation") from error
        except GeneratorExit:
            self.accepted = False  # the event loop has ended: nothing can be awaited
            raise
        finally:
            if ws._before_close is None:
                await self.disconnect()

    async def disconnect(self, code: int | None = None) -> None:
        """Run ``on_disconnect`` if the connection was accepted, then leave its rooms; called once.

        Args:
            code: The code with which the connection is about to be closed, if it is not closed already.
        """
        ws = self.connection
        ws._before_close = None
        ws.close_code = ws.close_code or code
        try:
            if self.accepted:
                await self._run_on_disconnect()
        finally:
            self.leave(self.accepted)

    async def _connect(self, req: falcon.asgi.Request, params: dict[str, Any]) -> bool:
        """Run ``on_connect`` as a transaction; return whether the connection is open."""
        ws = self.connection
        self.registry.enforcement.check_connection(ws)
        try:
            accepted = await self._run_on_connect(req, params) and not ws.closed
        except Forbidden as refusal:
            raise Reject(close_codes.ACCESS_DENIED, refusal.text) from refusal
        has_place = accepted and await self.registry.users.wait_reserved(ws)
        if not accepted or ws.closed:
            await ws.close(close_codes.FORBIDDEN if ws._is_accepted else None)
            return False
        if not has_place:
            raise Reject(close_codes.TOO_MANY_CONNECTIONS, "too many connections")
        if ws._expiry is not None and ws._expiry.has_passed:
            raise Reject(close_codes.SESSION_ENDED, EXPIRED)
        self.registry.enforcement.check_connection(ws)  # on_connect may have set the user
        transaction = await ws._open()
        if transaction is None:
            return False
        self.accepted = True
        if type(self.resource).on_resync is not WebSocketResource.on_resync:
            ws._on_resync = self.resource.on_resync
        for publication in transaction.received:
            ws._deliver(publication)
        await self.registry.add(ws)
        try:
            for room, publication, ephemeral in transaction.deferred:
                presence = self.registry.presence_of(ws, room) if publication.change else None
                if presence is None:
                    await self.registry.backend.publish_nowait(
                        room, publication, ephemeral=ephemeral
                    )
                else:
                    await self.registry.backend.update(room, presence, publication)
        except BackendUnavailable as error:
            await send_error(ws, error.code, error.text)
        return True

    async def _run_on_connect(self, req: falcon.asgi.Request, params: dict[str, Any]) -> bool:
        """Run ``on_connect`` with its timeout, detecting a disconnect meanwhile; return its decision."""
        ws = self.connection
        if not ws._is_accepted:
            ws._inbox.start_watching()
        accepted = None
        self.seconds = ws.limits.on_connect_seconds
        self.busy_since = asyncio.get_running_loop().time()
        try:
            accepted = await self.resource.on_connect(req, ws, **params)
        except (Exception, asyncio.CancelledError):
            if self.cancelled_at is None:
                raise
        finally:
            self.busy_since = None
            await ws._inbox.stop_watching()
        if self.cancelled_at is not None:
            self.take_back()
            return False
        if accepted is None:
            logger.warning("%s.on_connect returned None: return True to accept", self.name)
        return bool(accepted)

    async def _serve(self, req: falcon.asgi.Request, params: dict[str, Any]) -> None:
        """Connect, and pass one message after the other to its handler until the connection ends."""
        rate, rates = None, self.registry.rates
        try:
            if not await self._connect(req, params):
                return
            ws, resource, limits = self.connection, self.resource, self.connection.limits
            table = self.registry.compose(HandlerTable.of(type(resource), ws._config))
            ws._inbox.start()
            next_message, now = self.reader(), asyncio.get_running_loop().time
            decode, entries = table.decoder.decode, table.entries
            rate = rates.hold(limits, ws._rate_key, address_of(req.scope), now())
            self.seconds = limits.handler_seconds or math.inf
            # PERF: a character has at most 4 bytes of UTF-8, so a short message need not be measured.
            short = limits.max_message_bytes // 4
            while self.cancelled_at is None or await self._on_timeout(self.message):
                self.busy_since = None
                if (message := await next_message()) is None:
                    return
                if len(message) > short and size_bytes_of(message) > limits.max_message_bytes:
                    await ws.close(
                        close_codes.MESSAGE_TOO_BIG, f"at most {limits.max_message_bytes} bytes"
                    )
                    return
                at = now()
                if rate is not None and not rate.take(at):
                    await self._limit_rate(rate, message)
                    continue
                self.busy_since, self.message = at, message
                # PERF: a method for the following would be another coroutine per message.
                try:
                    if isinstance(message, str):
                        try:
                            envelope = decode(message)
                        except (ValueError, RecursionError) as error:
                            table.check_payload(message, error)
                        else:
                            entry = entries[type(envelope)]
                            entry.number += 1
                            reply = await entry.handler(resource, ws, envelope.payload)
                            needs_reply = reply is not None or envelope.ref is not UNSET
                            if needs_reply and self.cancelled_at is None:
                                # NOTE: a timeout while the reply waits is no second one.
                                self.message = None
                                await send_reply(ws, self.name, reply, entry.replies, envelope.ref)
                            continue
                    elif table.binary is not None:
                        await table.binary(resource, ws, message)
                        continue
                    await resource.on_unhandled(ws, message)
                except (Exception, asyncio.CancelledError) as error:
                    await self._on_failure(message, error)
        except SystemExit as error:
            # NOTE: out of a task it would stop the event loop.
            raise RuntimeError(f"{self.name} raised SystemExit") from error
        finally:
            rates.release(rate)
            self.end()

    async def _on_failure(self, message: str | bytes, error: BaseException) -> None:
        """Reply to the message of a failed handler, or raise its exception again."""
        ws = self.connection
        try:
            if self.cancelled_at is not None:
                raise error
            if isinstance(error, InvalidPayload):
                await self.resource.on_invalid(ws, message, error)
            elif isinstance(error, MessageError):
                await send_error(ws, error.code, error.text, message)
            else:
                raise error
        except (asyncio.CancelledError, WebSocketDisconnected):
            if self.cancelled_at is None:
                raise
        except Exception:
            if self.cancelled_at is None:
                raise
            logger.exception("%s: a handler failed after its cancellation", self.name)

    async def _on_timeout(self, message: str | bytes | None) -> bool:
        """Reply to the message of a cancelled handler; return whether the connection goes on."""
        self.take_back()
        if self.connection.closed:
            return False
        await send_error(self.connection, "timeout", "This took too long and was stopped.", message)
        return True

    async def _limit_rate(self, rate: MessageRate, message: str | bytes) -> None:
        """Reply to a message above the rate; close the connection if the client does not slow down."""
        self.registry.counters.rate_refusals += 1
        if rate.exhausted:
            await self.connection.close(close_codes.TOO_MANY_MESSAGES, "too many messages")
        else:
            text = f"Too many messages: wait {rate.exceeded.empty_seconds:.1f} s."
            await send_error(self.connection, "tooManyMessages", text, message)

    async def _run_on_disconnect(self) -> None:
        """Run ``on_disconnect`` to its end despite a cancellation of this task; that of the base class is not run."""
        method = getattr(self.resource.on_disconnect, "__func__", None)
        if method is ON_DISCONNECT:
            return  # PERF: a task, its context and a timer less for most classes
        ws, seconds = self.connection, self.connection.limits.on_disconnect_seconds
        code = close_codes.end_code(ws.close_code, closed=ws.closed)
        name = f"{self.name}.on_disconnect"
        try:
            await run_shielded(self._on_disconnect(code), seconds, name, self.context)
        except TimeoutError:
            logger.error("%s took more than %s s and was cancelled", name, seconds)
        except BackendUnavailable as error:
            logger.warning("%s: a message was not published: %s", name, error)
        except Exception:
            logger.exception("%s failed", name)

    async def _on_disconnect(self, code: int) -> None:
        """Run ``on_disconnect``; SystemExit out of a task would stop the event loop."""
        try:
            await self.resource.on_disconnect(self.connection, code)
        except SystemExit as error:
            raise RuntimeError(f"{self.name}.on_disconnect raised SystemExit") from error

"""The WebSocket protocol for uvicorn: messages as they are parsed, frames written to the transport.

Pass it to uvicorn as ``ws=PushProtocol``. It offers itself in ``scope["extensions"]``. Without it, messages
pass through the server's ``receive`` and ``send``, with the same promises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from websockets.frames import Frame

from ..close_codes import ABNORMAL_CLOSURE
from ..connection.extension import HTTP_EXTENSION, PUSH_EXTENSION
from ..connection.inbox import Event
from ..connection.outbox import OnFailure, Send
from ..errors import OutboxFull
from .attributes import has_attributes
from .handshake import HandshakeProtocol
from .handshake_queue import PendingHandshake
from .input import ENDING, INBOX_FULL, OUTBOX_FULL, BoundedInput, PushInbox
from .outbox import PushOutbox, unsent_bytes
from .sweep import SWEEPS
from .write_batch import WRITE_BATCHES


class AlwaysSet(asyncio.Event):
    """An event that nothing waits for, shared by all connections: it cannot be cleared."""

    def clear(self) -> None:
        raise RuntimeError("this event is shared by all connections")


# PERF: an event of its own would be 0.8 KiB of each connection.
WRITABLE = AlwaysSet()
WRITABLE.set()


class PushSansIOProtocol(BoundedInput, HandshakeProtocol):
    """uvicorn's sans-I/O WebSocket protocol with a :class:`..connection.extension.PushExtension`.

    It behaves like uvicorn's class if that lacks an attribute that this one depends on.
    """

    outbox: PushOutbox | None = None
    finished = False
    ending_since: float | None = None
    progress = (0, 0)
    """The progress of a client that does not read, when it was last seen."""
    progress_at = 0.0

    def handle_connect(self, event: Any) -> None:
        """Offer the extension; the application's task starts in a later iteration of the event loop."""
        supported = has_attributes(self)
        if supported:
            self.inbox = PushInbox(self)
            self.queue = self.inbox  # type: ignore[assignment]  # it has the methods that uvicorn calls
            self.writable = WRITABLE
            if self.config.ws_per_message_deflate:
                from .deflate import SingleMessages

                self.conn.available_extensions = [SingleMessages()]
        super().handle_connect(event)
        if self.close_sent:  # refused: no application will release it
            self.inbox, self.queue = None, asyncio.Queue()
        elif supported:
            extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
            extensions[PUSH_EXTENSION] = self
            if getattr(self.config.http_protocol_class, "bounds_requests", False):
                extensions[HTTP_EXTENSION] = {}

    def send_500_response(self) -> None:
        """Send the response of an application that did not answer, unless the client has disconnected."""
        if not self.conn.eof_sent:
            super().send_500_response()

    def make_inbox(self, on_disconnect: Callable[[Event], None]) -> PushInbox:
        """Return the inbox; ``on_disconnect`` is called at once if the client has disconnected."""
        assert self.inbox is not None
        self.inbox.attach(on_disconnect)
        return self.inbox

    def make_outbox(self, send: Send, on_failure: OnFailure) -> PushOutbox:
        """Make the outbox of this connection."""

        def send_now(event: Event) -> Awaitable[None]:
            # NOTE: uvicorn's send() waits for buffer space, which an event hardly needs.
            self._set_writable()
            return send(event)

        def fail(error: Exception) -> None:
            if self.transport.is_closing():
                # NOTE: or uvicorn would log the unanswered handshake as an error of the application.
                self.handshake_complete = True
            on_failure(error)

        outbox_class = PushOutbox
        if WRITE_BATCHES.of(self.loop).ring is not None:
            from .ring_outbox import RingOutbox

            outbox_class = RingOutbox
        if self.conn.extensions:
            from .deflate import with_compression

            outbox_class = with_compression(outbox_class, self.conn)
        self.outbox = outbox_class(self.loop, self.transport, send_now, fail)
        self.transport = self.outbox.transport
        if self.disconnected:
            self.outbox.on_connection_lost()
        return self.outbox

    def eof_received(self) -> None:
        """Handle the end of what the client sends."""
        super().eof_received()
        self._lose()
        if self.outbox is not None and self.outbox.batch.ring is not None:
            # NOTE: the transport closes itself after this call, which a ring has to know.
            self.transport.close()

    def handle_parser_exception(self) -> None:
        """End the connection after a protocol error; before the accept there is nothing to close."""
        self.failed = True
        close = self.conn.close_sent
        if close is None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": ABNORMAL_CLOSURE})
            self.transport.close()
            return
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
        )
        if self.outbox is not None:
            self.outbox.discard()  # nothing may follow the close frame
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._end()
        self._half_close()

    def pause_reading(self, reason: int) -> None:
        """Read nothing more from the client until the reason ends."""
        super().pause_reading(reason)
        if reason == ENDING:
            self._half_close()

    def _half_close(self) -> None:
        """End our side of a connection whose client is not read any more; the sweep aborts it."""
        # NOTE: a transport that is closed while data is unread sends RST, and the client may lose the close
        #   frame.
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
            if self.close_timer is None:
                self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
        else:
            self.transport.close()

    def handle_close(self, event: Frame) -> None:
        """Complete the closing handshake."""
        super().handle_close(event)
        self._end()

    async def send(self, message: Any) -> None:
        """Handle an event of the application."""
        if self.failed or (self.conn.eof_sent and not self.handshake_complete):
            raise ClientDisconnected  # uvicorn's method would raise another error, and log it
        await super().send(message)
        if self.close_sent:
            self._end()

    def _end(self) -> None:
        """Read the client's close frame, if there is one, and abort the connection after ``close_seconds``."""
        if self.inbox is not None and self.ending_since is None:
            self.ending_since = self.loop.time()
            SWEEPS.of(self.loop).add(self)
            self.resume_reading(INBOX_FULL)
        if self.close_timer is None and not self.transport.can_write_eof():
            # NOTE: without a timer uvicorn closes the transport once more when the application has ended, after which
            #   asyncio's transport for TLS ignores abort().
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def _lose(self) -> None:
        """Report a client that is gone at once; the transport has ``close_seconds`` to send what it has buffered."""
        if self.handshake_complete and not (self.close_sent or self.transport.is_closing()):
            self.queue.put_nowait({"type": "websocket.disconnect", "code": ABNORMAL_CLOSURE})
            self._end()

    def check(self, now: float) -> None:
        """Abort a connection that does not end, and one whose client does not read for ``stall_seconds``."""
        if self.ending_since is not None:
            if now - self.ending_since >= self.limits.close_seconds:
                self.transport.abort()
        elif self.transport.is_closing():
            self.ending_since = now
        elif self.paused_by & OUTBOX_FULL:
            self._check_progress(now)
        else:
            SWEEPS.of(self.loop).discard(self)

    @property
    def outbox_progress(self) -> tuple[int, int]:
        """The number of messages that have left the outbox, and the size of the transport's buffer."""
        taken = 0 if self.outbox is None else self.outbox.backlog.taken
        return taken, unsent_bytes(self.transport)

    def _check_progress(self, now: float) -> None:
        progress = self.outbox_progress
        # NOTE: pings of uvicorn make the buffer larger.
        if progress[0] > self.progress[0] or progress[1] < self.progress[1]:
            self.progress, self.progress_at = progress, now
        elif now - self.progress_at >= self.limits.stall_seconds:
            if self.outbox is not None:
                self.outbox.on_failure(OutboxFull("the client reads nothing"))
            self._end()

    def keepalive_timeout(self) -> None:
        """Close the connection without a pong, unless reading is paused and the pong may be unread."""
        if self._is_moving():
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
            return
        self._lose()
        super().keepalive_timeout()
        if unsent_bytes(self.transport):
            # NOTE: the close would wait forever for a client that does not read.
            self.transport.abort()

    def _is_moving(self) -> bool:
        """Return whether reading is paused while the client reads, or while it waits for a handler."""
        if not self.paused_by & OUTBOX_FULL:
            return bool(self.paused_by)
        return self.ping_timeout is None or self.loop.time() - self.progress_at < self.ping_timeout

    def _set_writable(self) -> None:
        """Release what waits for buffer space in uvicorn's ``send``."""
        self.writable.set()
        self.writable = WRITABLE

    def pause_writing(self) -> None:
        """Handle a transport buffer above the high-water mark: read nothing from a client that does not read."""
        self.writable = asyncio.Event()
        super().pause_writing()
        if self.outbox is not None:
            self.outbox.pause()
        if self.inbox is not None:
            self.progress = self.outbox_progress
            self.progress_at = self.loop.time()
            self.pause_reading(OUTBOX_FULL)
            SWEEPS.of(self.loop).add(self)

    def resume_writing(self) -> None:
        """Handle a transport buffer with space again."""
        super().resume_writing()
        self._set_writable()
        if self.outbox is not None:
            self.outbox.resume()
        if self.outbox is None or not self.outbox.waiting:
            self.resume_reading(OUTBOX_FULL)

    def shutdown(self) -> None:
        """Close the connection for a shutdown; one that is closing ends by itself within ``close_seconds``."""
        # NOTE: uvicorn's method would raise for it, or drop the close frame that has been sent.
        if self.ending_since is None and not self.transport.is_closing():
            super().shutdown()
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything that waits for the client, which is lost without a close frame (RFC 6455 section 7.1.5)."""
        try:
            if self.handshake_complete and self.conn.close_rcvd is None:
                self.queue.put_nowait({"type": "websocket.disconnect", "code": ABNORMAL_CLOSURE})
            super().connection_lost(exc)
        finally:
            # SECURITY: a ring must not write to the descriptor any more, which another connection may get.
            SWEEPS.of(self.loop).discard(self)
            if self.outbox is not None:
                self.outbox.on_connection_lost()
            self._release()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Note that the application has finished."""
        super().on_task_complete(task)
        self.finished = True
        if self.transport.is_closing() and not self.disconnected:
            self._end()
        self._release()

    def _release(self) -> None:
        """Break the reference cycles of an ended connection."""
        if self.inbox is not None and self.finished and self.disconnected:
            self.scope.setdefault("extensions", {}).clear()
            self.inbox = self.outbox = None
            self.queue = asyncio.Queue()


class PushProtocol(PendingHandshake):
    """The class to pass to uvicorn as ``ws=PushProtocol``: queues the handshake, then uses the extension."""

    protocol_class = PushSansIOProtocol

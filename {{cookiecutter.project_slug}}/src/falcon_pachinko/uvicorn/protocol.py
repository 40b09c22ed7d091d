"""The WebSocket protocol for uvicorn: messages as they are parsed, frames written to the transport.

Pass it to uvicorn as ``ws=PushProtocol``. It offers itself in ``scope["extensions"]``. Without it, messages
pass through the server's ``receive`` and ``send``, with the same promises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ..close_codes import ABNORMAL_CLOSURE, INVALID_TEXT
from ..connection.extension import PUSH_EXTENSION
from ..connection.inbox import Event
from ..connection.outbox import OnFailure, Send
from .handshake_queue import PendingHandshake
from .inbox import PushInbox
from .outbox import PushOutbox

# The attributes of uvicorn's class that this one depends on (uvicorn 0.54).
REQUIRED_ATTRIBUTES = (
    "close_sent",
    "conn",
    "curr_msg_data_type",
    "disconnected",
    "frames",
    "handle_parser_exception",
    "handshake_complete",
    "keepalive_timeout",
    "loop",
    "on_task_complete",
    "pending_ping_payload",
    "ping_timeout",
    "pong_timer",
    "queue",
    "read_paused",
    "schedule_ping",
    "send_receive_event_to_app",
    "transport",
    "writable",
)


class PushSansIOProtocol(WebSocketsSansIOProtocol):
    """uvicorn's sans-I/O WebSocket protocol with a :class:`..connection.extension.PushExtension`.

    It behaves like uvicorn's class if that lacks an attribute that this one depends on.
    """

    inbox: PushInbox | None = None
    outbox: PushOutbox | None = None
    finished = False

    def handle_connect(self, event: Any) -> None:
        """Offer the extension; the application's task starts in a later iteration of the event loop."""
        supported = all(hasattr(self, name) for name in REQUIRED_ATTRIBUTES)
        if supported:
            self.inbox = PushInbox(self)
            self.queue = self.inbox  # type: ignore[assignment]  # it has the methods that uvicorn calls
        super().handle_connect(event)
        if supported and not self.close_sent:
            self.scope["extensions"][PUSH_EXTENSION] = self  # type: ignore[assignment]

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
            self.writable.set()
            return send(event)

        def fail(error: Exception) -> None:
            if self.transport.is_closing():
                # NOTE: or uvicorn would log the unanswered handshake as an error of the application.
                self.handshake_complete = True
            on_failure(error)

        self.outbox = PushOutbox(self.loop, self.transport, send_now, fail)
        return self.outbox

    def send_receive_event_to_app(self) -> None:
        """Pass a complete message to the inbox."""
        if self.inbox is None:
            super().send_receive_event_to_app()
            return
        frames, self.frames = self.frames, []
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self.inbox.feed(bytes(data))
            return
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            self.conn.fail(INVALID_TEXT, f"invalid UTF-8 at byte {error.start}")
            self.handle_parser_exception()
        else:
            self.inbox.feed(text)

    def handle_parser_exception(self) -> None:
        """End the connection after a protocol error; before the accept there is nothing to close."""
        if self.conn.close_sent is not None:
            super().handle_parser_exception()
        else:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": ABNORMAL_CLOSURE})
            self.transport.close()

    def keepalive_timeout(self) -> None:
        """Close the connection without a pong, unless reading is paused and the pong may be unread."""
        if self.inbox is not None and self.read_paused:
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()
            if self.transport.get_write_buffer_size():
                # NOTE: the close would wait forever for a client that does not read.
                self.transport.abort()

    def resume_reading(self) -> None:
        """Read again after a pause, and restart the timeout of the pong."""
        self.read_paused = False
        self.transport.resume_reading()
        if self.pong_timer is not None and self.ping_timeout is not None:
            self.pong_timer.cancel()
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)

    def pause_writing(self) -> None:
        """Handle a transport buffer above the high-water mark."""
        super().pause_writing()
        if self.outbox is not None:
            self.outbox.pause()

    def resume_writing(self) -> None:
        """Handle a transport buffer with space again."""
        super().resume_writing()
        if self.outbox is not None:
            self.outbox.resume()

    def shutdown(self) -> None:
        """Close the connection for a shutdown, unless it is closing: uvicorn's method would raise then."""
        if not self.transport.is_closing():
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything that waits for the client."""
        super().connection_lost(exc)
        if self.outbox is not None:
            self.outbox.on_connection_lost()
        self._release()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Note that the application has finished."""
        super().on_task_complete(task)
        self.finished = True
        self._release()

    def _release(self) -> None:
        """Break the reference cycles of an ended connection."""
        if self.inbox is not None and self.finished and self.disconnected:
            self.scope["extensions"].clear()  # pyright: ignore[reportTypedDictNotRequiredAccess]
            self.inbox = self.outbox = None
            self.queue = asyncio.Queue()


class PushProtocol(PendingHandshake):
    """The class to pass to uvicorn as ``ws=PushProtocol``: queues the handshake, then uses the extension."""

    protocol_class = PushSansIOProtocol

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
from ..connection.inbox import Event, Message, is_full, poll_disconnect
from ..connection.outbox import OnFailure, Send
from ..limits import DEFAULT_LIMITS
from .handshake_queue import PendingHandshake
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


class PushInbox:
    """The messages of one client as they are parsed: the promises of :class:`..connection.inbox.Inbox`.

    It replaces uvicorn's queue of events (``put_nowait``, ``get``, ``empty``), which pauses reading after
    each message until the application receives it; this one pauses at the bound of the limits.
    """

    __slots__ = ("events", "interrupted", "limits", "on_disconnect", "protocol", "waiter")

    def __init__(self, protocol: PushSansIOProtocol) -> None:
        self.protocol = protocol
        self.events: list[Message | Event] = []
        self.limits = DEFAULT_LIMITS
        self.on_disconnect: Callable[[Event], None] | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.interrupted = False

    def attach(self, on_disconnect: Callable[[Event], None]) -> None:
        """Set the callback for a disconnect; it is called at once for an earlier one."""
        self.on_disconnect = on_disconnect
        for event in self.events:
            self._check_disconnect(event)

    def _check_disconnect(self, event: Message | Event) -> None:
        """Report a disconnect before the reader reaches it."""
        if isinstance(event, (str, bytes)) or self.on_disconnect is None:
            return
        if event["type"] == "websocket.disconnect":
            self.on_disconnect(event)

    def put_nowait(self, event: Event) -> None:
        """Append an event of uvicorn."""
        self.events.append(event)
        self._check_disconnect(event)
        self._wake()

    async def get(self) -> Event:
        """Wait for the next event: the result of ``receive`` for Falcon."""
        while not self.events:
            await self._wait_event()
        event = self.events.pop(0)
        if self.protocol.read_paused and not self.events:
            self.protocol.resume_reading()
        if isinstance(event, str):
            return {"type": "websocket.receive", "text": event}
        if isinstance(event, bytes):
            return {"type": "websocket.receive", "bytes": event}
        return event

    def empty(self) -> bool:
        """Return whether no event is pending."""
        return not self.events

    def feed(self, message: Message) -> None:
        """Append a message; pause reading at the bound of messages that wait for a busy handler."""
        self.events.append(message)
        if self.waiter is not None:
            self._wake()
        elif self.full and not self.protocol.read_paused:
            self.protocol.read_paused = True
            self.protocol.transport.pause_reading()

    @property
    def full(self) -> bool:
        """Whether nothing more is read from the client for now."""
        return is_full(self.events, self.limits)

    def _wait_event(self) -> asyncio.Future[None]:
        self.waiter = waiter = self.protocol.loop.create_future()
        return waiter

    def _wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def start_watching(self) -> None:
        """Do nothing: uvicorn reports a disconnect at once."""

    async def stop_watching(self) -> None:
        """Let the event loop report a disconnect that has happened."""
        await poll_disconnect()

    def start(self) -> None:
        """Do nothing: the task that calls :meth:`next` is the reader."""

    async def next(self) -> Message | None:
        """Wait for the next message; return ``None`` at the end or after :meth:`interrupt`."""
        while not self.events:
            if self.interrupted:
                return None
            await self._wait_event()
        if self.interrupted:
            return None
        message = self.events.pop(0)
        if self.protocol.read_paused and not self.events:
            self.protocol.resume_reading()
        if isinstance(message, (str, bytes)):
            return message
        self.interrupted = True
        return None

    def interrupt(self) -> None:
        """Wake the reader if it waits for a message; a running handler is not disturbed."""
        self.interrupted = True
        self._wake()

    def close(self) -> None:
        """Stop reading: later messages are dropped."""
        self.interrupted = True
        self.events.clear()
        self.on_disconnect = None

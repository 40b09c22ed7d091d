"""The input of a client on uvicorn: frames are counted, and nothing is read from a client that does not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from ..close_codes import INVALID_TEXT, MESSAGE_TOO_BIG, TOO_MANY_MESSAGES
from ..connection.counts import Received
from ..connection.inbox import Event, Message, is_full, poll_disconnect, size_of
from ..limits import DEFAULT_LIMITS, Limits
from ..support.tasks import ignore
from .frame_rate import FrameRate
from .frames import COMPRESSED_SLICE_BYTES, SLICE_BYTES, is_supported, read_text_frames

# Why nothing is read: messages wait for a handler, the process buffers too much, the client does not read, the end.
INBOX_FULL, BUDGET_EXCEEDED, OUTBOX_FULL, ENDING = 1, 2, 4, 8

# After our close only the client's close frame is of interest, which may be behind messages on the way.
BYTES_AFTER_CLOSE = 65_536


class BoundedInput(WebSocketsSansIOProtocol):
    """uvicorn's protocol with bounds for what a client sends; without an inbox it behaves like uvicorn's class.

    Control frames, fragments, and messages that nobody handles yet or any more take a token. A flood of them
    closes the connection with 4029, too many fragments of a message close it with 1009.

    Attributes:
        accelerated: Whether plain text frames are read without websockets' parser (:mod:`.frames`).
        paused_by: The reasons for which nothing is read.
        unparsed: Data that was received before reading was paused.
        failed: Whether the connection has been closed because of its frames; further ones are discarded.
    """

    accelerated = True
    inbox: PushInbox | None = None
    paused_by = 0
    unparsed = b""
    failed = False
    frame_rate: FrameRate | None = None
    bytes_after_close = 0

    @property
    def limits(self) -> Limits:
        """The bounds in force."""
        return DEFAULT_LIMITS if self.inbox is None else self.inbox.limits

    def data_received(self, data: bytes) -> None:
        """Parse data, unless nothing is to be read from the client now."""
        if (inbox := self.inbox) is None:
            super().data_received(data)
            return
        end = 0
        if self.close_sent:
            self.bytes_after_close += len(data)
        elif self.accelerated and not (self.unparsed or self.paused_by):
            # PERF: as in _parse_in_slices(), without the call; most data ends here.
            end = read_text_frames(self.conn, inbox, data, 0)
        if end < len(data):
            self._parse_in_slices(inbox, data[end:])

    def _parse_in_slices(self, inbox: PushInbox, data: bytes) -> None:
        """Parse data until reading is paused; keep the rest."""
        if self.bytes_after_close > BYTES_AFTER_CLOSE:
            self.pause_reading(ENDING)
        data, self.unparsed = self.unparsed + data, b""
        end = 0
        while (start := end) < len(data):
            if self.paused_by or self.failed:
                self.unparsed = data[start:]
                return
            end = read_text_frames(self.conn, inbox, data, start) if self.accelerated else start
            if end == start:
                end += COMPRESSED_SLICE_BYTES if self.conn.extensions else SLICE_BYTES
                self.conn.receive_data(data[start:end])
                if self.conn.parser_exc is not None:
                    self.handle_parser_exception()
                else:
                    self.handle_events()

    def send_receive_event_to_app(self) -> None:
        """Pass a complete message to the inbox."""
        if self.inbox is None:
            super().send_receive_event_to_app()
            return
        frames, self.frames = self.frames, []
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        # NOTE: the rate of messages belongs to a handler, which there is not yet, or not any more.
        is_handled = self.handshake_complete and not self.close_sent
        if not is_handled and (not self._count_frame() or self.close_sent):
            return
        self.inbox.received += 1
        self.inbox.received_bytes += len(data)
        if self.curr_msg_data_type == "bytes":
            self.inbox.feed(bytes(data))
            return
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            self._fail(INVALID_TEXT, f"invalid UTF-8 at byte {error.start}")
        else:
            self.inbox.feed(text)

    def pause_reading(self, reason: int) -> None:
        """Read nothing more from the client until the reason ends."""
        if not self.paused_by and not self.transport.is_closing():
            self.transport.pause_reading()
        self.paused_by |= reason

    def resume_reading(self, reason: int) -> None:
        """End a reason for a pause; with the last one, read again and restart the timeout of the pong."""
        if not self.paused_by & reason:
            return
        self.paused_by &= ~reason
        if self.paused_by or self.transport.is_closing():
            return
        self.transport.resume_reading()
        if self.pong_timer is not None and self.ping_timeout is not None:
            self.pong_timer.cancel()
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
        if self.unparsed and self.inbox is not None:
            self._parse_in_slices(self.inbox, b"")

    def handle_ping(self) -> None:
        """Send the pong, unless the connection is not open."""
        if self.inbox is None:
            super().handle_ping()
        elif self._count_frame():
            pongs = self.conn.data_to_send()
            if self.handshake_complete and not self.close_sent:
                self.transport.write(b"".join(pongs))

    def handle_pong(self, event: Frame) -> None:
        """Note the pong."""
        if self._count_frame():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        """Add a fragment to its message."""
        if self.inbox is not None and len(self.frames) >= self.limits.message_fragments:
            self._fail(MESSAGE_TOO_BIG, f"at most {self.limits.message_fragments} fragments")
        elif self._count_frame():
            super().handle_cont(event)

    def _count_frame(self) -> bool:
        """Count a frame that is not a whole message; return whether it is to be handled."""
        if self.inbox is None or self.failed:
            return not self.failed
        if self.frame_rate is None:
            self.frame_rate = FrameRate.of(self.inbox.limits, self.scope, self.loop)
        if self.frame_rate.take(self.loop.time()):
            return True
        self._fail(TOO_MANY_MESSAGES, "too many frames")
        return False

    @property
    def flood(self) -> float:
        """The share of the burst of frames that the client has used lately."""
        return 0.0 if self.frame_rate is None else self.frame_rate.used(self.loop.time())

    def _fail(self, code: int, reason: str) -> None:
        """Close the connection because of what it has received; further frames are discarded."""
        self.frames = []
        self.conn.fail(code, reason)
        self.handle_parser_exception()


class PushInbox(Received):
    """The messages of one client as they are parsed: the promises of :class:`..connection.inbox.Inbox`.

    It replaces uvicorn's queue of events (``put_nowait``, ``get``, ``empty``), which holds one message.
    """

    __slots__ = ("events", "interrupted", "limits", "on_disconnect", "protocol", "take", "waiter")

    def __init__(self, protocol: BoundedInput) -> None:
        super().__init__()
        self.protocol = protocol
        self.events: list[Message | Event] = []
        self.limits = DEFAULT_LIMITS
        self.on_disconnect: Callable[[Event], None] = ignore
        self.waiter: asyncio.Future[None] | None = None
        self.take: Callable[[Message], bool] | None = None
        self.interrupted = False
        if protocol.accelerated and not is_supported():
            protocol.accelerated = False

    def attach(self, on_disconnect: Callable[[Event], None]) -> None:
        """Set the callback for a disconnect; it is called at once for an earlier one."""
        self.on_disconnect = on_disconnect
        for event in self.events:
            self._check_disconnect(event)

    def _check_disconnect(self, event: Message | Event) -> None:
        """Report a disconnect before the reader reaches it."""
        if not isinstance(event, (str, bytes)) and event["type"] == "websocket.disconnect":
            self.on_disconnect(event)

    def put_nowait(self, event: Event) -> None:
        """Append an event of uvicorn."""
        self.events.append(event)
        self._check_disconnect(event)
        self._wake()

    async def get(self) -> Event:
        """Wait for the next event: the result of ``receive`` for Falcon."""
        while not self.events:
            self.waiter = waiter = self.protocol.loop.create_future()
            await waiter
        event = self.events.pop(0)
        if self.protocol.paused_by and not self.events:
            self.protocol.resume_reading(INBOX_FULL)
        if not isinstance(event, (str, bytes)):
            return event
        return {"type": "websocket.receive", "text" if isinstance(event, str) else "bytes": event}

    def empty(self) -> bool:
        """Return whether no event is pending."""
        return not self.events

    def feed(self, message: Message) -> None:
        """Append a message; pause reading at the bound of messages that wait for a busy handler."""
        if self.take is not None and self.take(message):
            return
        self.events.append(message)
        if (waiter := self.waiter) is not None:
            # PERF: as in _wake(), without the call.
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)
        elif self.full:
            self.protocol.pause_reading(INBOX_FULL)

    @property
    def full(self) -> bool:
        """Whether nothing more is read from the client for now."""
        return is_full(self.events, self.limits)

    @property
    def size_bytes(self) -> int:
        """The size of all data that waits for a handler, with that of incomplete messages."""
        size_bytes = len(self.protocol.unparsed) + size_of(self.events)
        return size_bytes + sum(map(len, self.protocol.frames))

    def pause(self) -> None:
        """Read nothing more from the client until :meth:`resume`."""
        self.protocol.pause_reading(BUDGET_EXCEEDED)

    def resume(self) -> None:
        """End a pause."""
        self.protocol.resume_reading(BUDGET_EXCEEDED)

    def _wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def expect_reply(self, take: Callable[[Message], bool]) -> None:
        """Offer each message to ``take`` when it is parsed."""
        self.take = take

    def start_watching(self) -> None:
        """Do nothing: uvicorn reports a disconnect at once."""

    async def stop_watching(self) -> None:
        """Let the event loop report a disconnect that has happened."""
        await poll_disconnect()

    def start(self) -> None:
        """Do nothing: the task that calls :meth:`next` is the reader."""

    async def next(self) -> Message | None:
        """Wait for the next message; return ``None`` at the end or after :meth:`interrupt`."""
        while not (self.events or self.interrupted):
            self.waiter = waiter = self.protocol.loop.create_future()
            await waiter
        if self.interrupted:
            return None
        message = self.events.pop(0)
        if self.protocol.paused_by and not self.events:
            self.protocol.resume_reading(INBOX_FULL)
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
        self.on_disconnect = ignore

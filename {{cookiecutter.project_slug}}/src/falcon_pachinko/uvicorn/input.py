"""The input of a client on uvicorn: frames are counted, and nothing is read from a client that does not read."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from ..close_codes import MESSAGE_TOO_BIG, TOO_MANY_MESSAGES
from ..connection.rate_limit import TokenBucket
from ..limits import DEFAULT_LIMITS, Limits
from .inbox import PushInbox

# Reasons for which nothing is read from a client, besides those of the inbox: it does not read itself, or
# the connection is ending.
OUTBOX_FULL, ENDING = 4, 8

# SECURITY: the parser handles all frames of its input, 12 µs each, before any of them can be counted.
SLICE_BYTES = 4_096
# After our close only the client's close frame is of interest, which may be behind messages on the way.
BYTES_AFTER_CLOSE = 65_536


class BoundedInput(WebSocketsSansIOProtocol):
    """uvicorn's protocol with bounds for what a client sends; without an inbox it behaves like uvicorn's class.

    Frames that are not whole messages (control frames and fragments) take a token of a bucket. A flood of
    them closes the connection with 4029, too many fragments of a message close it with 1009.

    Attributes:
        paused_by: The reasons for which nothing is read.
        unparsed: Data that was received before reading was paused.
        failed: Whether the connection has been closed because of its frames; further ones are discarded.
    """

    inbox: PushInbox | None = None
    paused_by = 0
    unparsed = b""
    failed = False
    frame_bucket: TokenBucket | None = None
    bytes_after_close = 0

    @property
    def limits(self) -> Limits:
        """The bounds in force."""
        return DEFAULT_LIMITS if self.inbox is None else self.inbox.limits

    def data_received(self, data: bytes) -> None:
        """Parse data, unless nothing is to be read from the client now."""
        if self.inbox is None:
            super().data_received(data)
        elif self.unparsed or self.paused_by or self.close_sent or len(data) > SLICE_BYTES:
            self._parse_in_slices(data)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        self.conn.receive_data(data)
        if self.conn.parser_exc is not None:
            self.handle_parser_exception()
        else:
            self.handle_events()

    def _parse_in_slices(self, data: bytes) -> None:
        """Parse data until reading is paused; keep the rest."""
        if self.close_sent:
            self.bytes_after_close += len(data)
            if self.bytes_after_close > BYTES_AFTER_CLOSE:
                self.pause_reading(ENDING)
        if self.failed:
            return
        data, self.unparsed = self.unparsed + data, b""
        for start in range(0, len(data), SLICE_BYTES):
            if self.paused_by or self.failed:
                self.unparsed = data[start:]
                return
            self._parse(data[start : start + SLICE_BYTES])

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
        if self.unparsed:
            self._parse_in_slices(b"")

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
        if self.inbox is None:
            return True
        if self.failed:
            return False
        now, limits = self.loop.time(), self.inbox.limits
        if self.frame_bucket is None:
            self.frame_bucket = TokenBucket(limits.frames_per_second, limits.frame_burst, now)
        if self.frame_bucket.take(now):
            return True
        self._fail(TOO_MANY_MESSAGES, "too many frames")
        return False

    def _fail(self, code: int, reason: str) -> None:
        """Close the connection because of its frames; further ones are discarded."""
        self.frames = []
        self.conn.fail(code, reason)
        self.handle_parser_exception()

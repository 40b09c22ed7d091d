"""The fast way out on uvicorn: finished frames, written to the transport.

Give the protocol to uvicorn as ``ws=PushProtocol``; nothing else is needed. It offers itself to the
application in ``scope["extensions"]``. Where that is missing, because another server or another
protocol class is in use, messages go through the server's ``send``; the promises are the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from .errors import OutboxFull
from .limits import Limits
from .messages import CLOSE, Outgoing
from .outbox import PUSH_EXTENSION, Send
from .suspension import begin

# PERF: what is this large gains nothing by being joined with more.
MAX_JOINED_BYTES = 65_536

# What of uvicorn's class the way past its ``send`` rests on (uvicorn 0.54).
NEEDED = ("close_sent", "loop", "scope", "transport", "writable")


class PushProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol on websockets' sans-I/O layer, with a way past its ``send``.

    Where uvicorn's class is not the one that it knows, it offers nothing and is that class.
    """

    push_outbox: PushOutbox | None = None

    def handle_connect(self, event: Any) -> None:
        """Offer the way out; the application's task begins in a later turn of the event loop."""
        super().handle_connect(event)
        if all(hasattr(self, name) for name in NEEDED) and not self.close_sent:
            self.scope["extensions"][PUSH_EXTENSION] = {"make_outbox": self.make_outbox}

    def make_outbox(self, send: Send) -> PushOutbox:
        """The outbox of this connection's only client."""
        self.push_outbox = PushOutbox(self, send)
        return self.push_outbox

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        if self.push_outbox is not None:
            self.push_outbox.block()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self.push_outbox is not None:
            self.push_outbox.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nobody has to wait for it any more."""
        super().connection_lost(exc)
        if self.push_outbox is not None:
            self.push_outbox.lose()


class Turn:
    """The outboxes that have something to write at the end of this turn of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.outboxes: list[PushOutbox] = []

    def add(self, outbox: PushOutbox) -> None:
        """Let an outbox write at the end of the turn."""
        if not self.outboxes:
            self.loop.call_soon(self.end)
        self.outboxes.append(outbox)

    def end(self) -> None:
        """Let all of them write."""
        outboxes, self.outboxes = self.outboxes, []
        for outbox in outboxes:
            outbox.flush()


class PushOutbox:
    """Messages to one client as frames: the promises of ``outbox.AnyOutbox``.

    Frames of one turn of the event loop are joined to one write. While the transport holds more than
    its high-water mark (64 KiB), messages wait here.
    """

    __slots__ = (
        "blocked",
        "drained",
        "frames",
        "joined_bytes",
        "lost",
        "protocol",
        "queue",
        "send",
        "size_bytes",
        "turn",
    )

    def __init__(self, protocol: PushProtocol, send: Send) -> None:
        self.protocol = protocol
        self.send = send
        self.turn = turn_of(protocol.loop)
        self.frames: list[bytes] = []
        self.joined_bytes = 0
        self.queue: deque[Outgoing] = deque()
        self.size_bytes = 0
        self.blocked = False
        self.lost = False
        self.drained: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> bool:
        """Whether the transport makes us wait."""
        return self.blocked

    def write(self, outgoing: Outgoing, limits: Limits) -> None:
        """Let a message out at the end of this turn, or let it wait behind those that wait already.

        Raises:
            OutboxFull: More waits than may.
            ConnectionResetError: The client is gone.
        """
        if self.blocked:
            self.wait(outgoing, limits)
        else:
            self.put(outgoing)

    def put(self, outgoing: Outgoing) -> None:
        """Join a message to those of this turn; a close leaves behind them at once."""
        if outgoing.opcode == CLOSE:
            self.flush()
            self.send_close(outgoing)
            return
        frame = outgoing.frame or outgoing.make_frame()
        if not self.frames:
            self.turn.add(self)
        self.frames.append(frame)
        self.joined_bytes += len(frame)
        if self.joined_bytes > MAX_JOINED_BYTES:
            self.flush()

    def wait(self, outgoing: Outgoing, limits: Limits) -> None:
        """Put a message behind those that wait."""
        if self.lost:
            raise ConnectionResetError("the client is gone")
        if outgoing.opcode == CLOSE and not self.queue:
            # What stands before it is with the transport already.
            self.send_close(outgoing)
            return
        self.queue.append(outgoing)
        self.size_bytes += outgoing.size_bytes
        if len(self.queue) > limits.outbox_messages or self.size_bytes > limits.outbox_bytes:
            raise OutboxFull(f"{len(self.queue)} messages with {self.size_bytes} bytes wait")

    def send_close(self, outgoing: Outgoing) -> None:
        """Let uvicorn close: it keeps the state of the connection."""
        # NOTE: uvicorn waits for room before any send, and a close frame needs next to none.
        self.protocol.writable.set()
        begin(self.send(outgoing.event))

    def flush(self) -> None:
        """Write the frames of this turn."""
        frames, self.frames = self.frames, []
        self.joined_bytes = 0
        transport = self.protocol.transport
        if frames and not transport.is_closing():
            transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def block(self) -> None:
        """The transport holds enough: from now on messages wait."""
        self.blocked = True

    def resume(self) -> None:
        """The transport has room again."""
        self.blocked = False
        while self.queue and not self.blocked:
            outgoing = self.queue.popleft()
            self.size_bytes -= outgoing.size_bytes
            self.put(outgoing)
        self.flush()
        if not self.blocked:
            self.wake()

    def lose(self) -> None:
        """The client is gone: nobody waits for it any more."""
        self.lost = self.blocked = True
        self.clear()
        self.wake()

    def wake(self) -> None:
        """Let those go on who wait for room."""
        if self.drained is not None:
            self.drained.set_result(None)
            self.drained = None

    async def wait_drained(self, timeout_seconds: float | None = None) -> None:
        """Wait until the transport has room for all; being cancelled does not disturb anything."""
        if self.blocked and not self.lost:
            if self.drained is None:
                self.drained = self.turn.loop.create_future()
            await asyncio.wait({self.drained}, timeout=timeout_seconds)

    def clear(self) -> None:
        """Drop what waits."""
        self.queue.clear()
        self.size_bytes = 0

    def stop(self) -> None:
        """Give up: what the transport still holds nobody reads."""
        self.clear()
        self.frames.clear()
        if self.blocked:
            self.protocol.transport.abort()


latest_turn: Turn | None = None


def turn_of(loop: asyncio.AbstractEventLoop) -> Turn:
    """The turns of an event loop."""
    global latest_turn
    if latest_turn is None or latest_turn.loop is not loop:
        latest_turn = Turn(loop)
    return latest_turn

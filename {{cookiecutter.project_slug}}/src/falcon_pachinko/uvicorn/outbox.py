"""The fast way out: finished frames, written to the transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..connection.eager import Suspended, begin
from ..connection.outbox import Backlog, OnFailure, Send, ignore
from ..errors import OutboxFull
from ..limits import DEFAULT_LIMITS
from ..publication import EVENT, Publication
from .write_batch import MAX_JOINED_BYTES, TURNS, Turn, join_frames


class PushOutbox:
    """Messages to one client as frames: the promises of ``outbox.AnyOutbox``.

    While the transport holds more than its high-water mark (64 KiB), messages wait here.

    Args:
        loop: The event loop.
        transport: Where frames are written.
        send: The server's ``send`` for events, such as a close; it does not wait for room.
        on_failure: Called with an error when the client cannot take a message.
    """

    __slots__ = (
        "backlog",
        "closed",
        "drained",
        "limits",
        "loop",
        "on_failure",
        "send",
        "sending",
        "transport",
        "turn",
        "waiting",
        "write_now",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        send: Send,
        on_failure: OnFailure,
    ) -> None:
        self.loop = loop
        self.transport = transport
        self.send = send
        self.on_failure = on_failure
        self.limits = DEFAULT_LIMITS
        self.turn = TURNS.of(loop)
        self.backlog = Backlog()
        self.waiting = False
        self.closed = False
        self.sending: asyncio.Task[None] | None = None
        self.drained: asyncio.Future[None] | None = None
        self.write_now: Callable[[bytes], None] | None = transport.write
        """Set while frames go straight to the transport."""

    @property
    def outboxes(self) -> tuple[PushOutbox, ...]:
        """This one."""
        return (self,)

    def write(self, publication: Publication) -> None:
        """Let a message out at the end of this turn, or behind those that wait already."""
        if publication.opcode != EVENT:
            self.turn.post(self, publication)
            return
        self.turn.end()
        if self.backlog.messages:
            self.backlog.messages.append(publication)
        else:
            self.send_event(publication)

    def put(self, messages: list[Publication], data: bytes) -> None:
        """Write messages whose frames are joined already, or let them wait."""
        if self.write_now is not None:
            try:
                self.write_now(data)
            except Exception as error:
                self.on_failure(error)
            return
        for publication in messages:
            if self.closed:
                return
            try:
                self.backlog.add(publication, self.limits)
            except OutboxFull as error:
                self.on_failure(error)

    def send_event(self, publication: Publication) -> None:
        """Let uvicorn answer the handshake or close: it keeps the state of the connection."""
        if self.transport.is_closing():  # uvicorn would not say so
            self.on_failure(ConnectionResetError("the client is gone"))
            return
        try:
            suspended = begin(self.send(publication.event))
        except Exception as error:
            self.on_failure(error)
            return
        if suspended is not None:  # a middleware around it takes its time
            self.sending = self.loop.create_task(self.finish_sending(suspended))

    async def finish_sending(self, suspended: Suspended) -> None:
        """Send an event to its end."""
        try:
            await suspended
        except Exception as error:
            self.on_failure(error)
        finally:
            self.sending = None

    def pause(self) -> None:
        """The transport holds enough: from now on messages wait."""
        self.waiting = True
        self.turn.changes += 1
        self.write_now = None

    def resume(self) -> None:
        """The transport has room again."""
        self.waiting = False
        while self.backlog.messages and not self.waiting:
            self.write_backlog()
        if not self.waiting:
            if not self.closed:
                self.turn.changes += 1
                self.write_now = self.transport.write
            self.wake()

    def write_backlog(self) -> None:
        """Write as much as is worth joining, or an event."""
        if self.backlog.messages[0].opcode == EVENT:
            self.send_event(self.backlog.pop())
            return
        messages: list[Publication] = []
        size_bytes = 0
        while self.backlog.messages and size_bytes < MAX_JOINED_BYTES:
            if self.backlog.messages[0].opcode == EVENT:
                break
            messages.append(self.backlog.pop())
            size_bytes += messages[-1].size_bytes
        self.transport.write(join_frames(messages))

    def close(self) -> None:
        """Take no more messages, except events; those that wait still leave."""
        self.turn.end()
        self.closed = True
        self.turn.changes += 1
        self.write_now = None

    def lose(self) -> None:
        """The client is gone: nobody waits for it any more."""
        self.close()
        self.waiting = False
        self.clear()
        self.wake()

    def wake(self) -> None:
        """Let those go on who wait for room."""
        if self.drained is not None:
            self.drained.set_result(None)
            self.drained = None

    async def wait_drained(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the transport has room for all; being cancelled does not disturb anything."""
        waits_for: asyncio.Future[None] | None = self.sending
        if waits_for is None:
            if not self.waiting:
                return True
            if self.drained is None:
                self.drained = self.loop.create_future()
            waits_for = self.drained
        done, _ = await asyncio.wait({waits_for}, timeout=timeout_seconds)
        return bool(done)

    def clear(self) -> None:
        """Drop what waits."""
        self.turn.end()
        self.backlog.clear()

    def stop(self) -> None:
        """Give up on what waits; what the transport still holds has ``close_seconds`` to leave."""
        self.close()
        self.clear()
        self.on_failure = ignore
        if self.waiting:
            self.transport.abort()
        elif self.transport.get_write_buffer_size():
            self.loop.call_later(self.limits.close_seconds, self.let_go)
        if self.sending is not None:
            self.sending.cancel()

    def let_go(self) -> None:
        """Break the connection to a client that still has not read what is left for it."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()


class PushGroup:
    """Clients that get the same messages again and again."""

    __slots__ = ("changes", "outboxes", "turn", "writers")

    def __init__(self, turn: Turn, outboxes: tuple[PushOutbox, ...]) -> None:
        self.turn = turn
        self.outboxes = outboxes
        self.changes = -1
        self.writers: tuple[Callable[[bytes], None], ...] = ()
        """The write functions of all, or nothing where one of them has to wait."""

    def put(self, messages: list[Publication], data: bytes) -> None:
        """Write messages to all."""
        if self.changes != self.turn.changes:
            writers = [outbox.write_now for outbox in self.outboxes]
            self.writers = tuple(write for write in writers if write is not None)
            if len(self.writers) < len(writers):
                self.writers = ()
            self.changes = self.turn.changes
        if not self.writers:
            for outbox in self.outboxes:
                outbox.put(messages, data)
            return
        # PERF: each object that this loop touches is a miss of the processor's cache for each delivery,
        #   behind what the kernel does in between; the outboxes are two of four.
        rest = iter(self.writers)
        while True:
            try:
                for write_now in rest:
                    write_now(data)
                return
            except Exception as error:
                self.outboxes[self.writers.index(write_now)].on_failure(error)

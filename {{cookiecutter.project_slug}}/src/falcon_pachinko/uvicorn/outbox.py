"""Outbound messages on uvicorn: finished frames, written to the transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from itertools import filterfalse
from operator import attrgetter

from ..connection.counts import Sent
from ..connection.eager import Suspended, run_eagerly
from ..connection.outbox import Backlog, OnFailure, Outbox, OutboxGroup, Send
from ..errors import OutboxFull
from ..limits import DEFAULT_LIMITS
from ..publication import EVENT, Publication
from ..support.tasks import ignore
from .write_batch import MAX_JOINED_BYTES, WRITE_BATCHES, WriteBatch, join_frames

WRITE_NOW = attrgetter("write_now")


def unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """Return the size of a transport's buffer; 0 for one with TLS that was closed twice."""
    try:
        return transport.get_write_buffer_size()
    except AttributeError:
        # NOTE: asyncio's transport has given up its TLS protocol then (close() of _SSLProtocolTransport, sslproto.py of
        #   Python 3.11 to 3.14), which goes on by itself until the client has answered.
        return 0


class PushOutbox(Sent):
    """An outbox that writes frames to the transport: the promises of :class:`..connection.outbox.Outbox`.

    Messages are pending here while the transport buffers more than its high-water mark (64 KiB).

    Args:
        loop: The event loop.
        transport: The transport that frames are written to.
        send: The server's ``send`` for events, such as a close; it does not wait for buffer space.
        on_failure: Called with an exception when the client cannot receive a message.
    """

    __slots__ = (
        "backlog",
        "batch",
        "closed",
        "drained",
        "limits",
        "loop",
        "on_failure",
        "send",
        "send_task",
        "transport",
        "used",
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
        super().__init__()
        self.loop = loop
        self.transport = transport
        self.send = send
        self.on_failure = on_failure
        self.limits = DEFAULT_LIMITS
        self.batch = WRITE_BATCHES.of(loop)
        self.backlog = Backlog()
        self.waiting = False
        self.closed = False
        self.used = False
        self.send_task: asyncio.Task[None] | None = None
        self.drained: asyncio.Future[None] | None = None
        self.write_now: Callable[[bytes], None] | None = transport.write
        """The transport's ``write``; ``None`` while messages have to wait."""

    @classmethod
    def group(cls, outboxes: Iterable[PushOutbox]) -> OutboxGroup:
        """Make a group of outboxes of this class."""
        return PushGroup(tuple(outboxes))

    @property
    def outboxes(self) -> tuple[PushOutbox, ...]:
        """This outbox, as a target of a write batch."""
        return (self,)

    @property
    def size_bytes(self) -> int:
        """The size of all data that the client has not been sent."""
        return self.backlog.size_bytes + unsent_bytes(self.transport)

    def write(self, publication: Publication) -> None:
        """Write a message at the end of this iteration of the loop, or behind pending ones."""
        if publication.opcode != EVENT:
            self.used = True
            self.sent += 1
            self.sent_bytes += publication.size_bytes
            self.batch.add(self, publication)
            return
        if not self.closed:
            self.batch.flush()
        if self.backlog.messages:
            self.backlog.messages.append(publication)
        else:
            self._send_event(publication)

    def put(
        self, messages: list[Publication], data: bytes, excluded: Collection[Outbox] = ()
    ) -> None:
        """Write messages whose frames are joined in ``data``, or queue them."""
        if excluded and self in excluded:
            return
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

    def _send_event(self, publication: Publication) -> None:
        """Pass the accept or the close to uvicorn, which keeps the state of the handshakes."""
        if self.transport.is_closing():  # uvicorn would not report that
            self.on_failure(ConnectionResetError("the client has disconnected"))
            return
        try:
            suspended = run_eagerly(self.send(publication.event))
        except Exception as error:
            self.on_failure(error)
            return
        if suspended is not None:  # a middleware's wrapper waits
            self.send_task = self.loop.create_task(self._finish_send(suspended))

    async def _finish_send(self, suspended: Suspended) -> None:
        try:
            await suspended
        except Exception as error:
            self.on_failure(error)
        finally:
            self.send_task = None

    def pause(self) -> None:
        """Queue messages: the transport's buffer is above the high-water mark."""
        self.waiting = True
        self._set_write_now(None)

    def resume(self) -> None:
        """Write pending messages: the transport's buffer has space."""
        self.waiting = False
        if self.transport.is_closing():
            # NOTE: uvicorn has answered the client's close; nothing may follow (RFC 6455 section 5.5.1).
            self.backlog.clear()
        while self.backlog.messages and not self.waiting:
            self._write_backlog()
        if not self.waiting:
            if not self.closed:
                self._set_write_now(self.transport.write)
            self._wake_waiters()

    def _set_write_now(self, write_now: Callable[[bytes], None] | None) -> None:
        self.batch.changes += 1
        self.write_now = write_now

    def _write_backlog(self) -> None:
        """Write an event, or as many messages as are worth joining."""
        if self.backlog.messages[0].opcode == EVENT:
            self._send_event(self.backlog.pop())
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
        """Accept no more messages, except events; pending messages are still sent. Idempotent."""
        if not self.closed:
            self.batch.flush()
            self.closed = True
            self._set_write_now(None)

    def on_connection_lost(self) -> None:
        """Drop pending messages and wake everything that waits for the client."""
        self.close()
        self.waiting = False
        self.backlog.clear()
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        if self.drained is not None:
            self.drained.set_result(None)
            self.drained = None

    async def wait_drained(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the transport has space for all messages; cancellation does not affect them."""
        waits_for: asyncio.Future[None] | None = self.send_task
        if waits_for is None:
            if not self.waiting:
                return True
            if self.drained is None:
                self.drained = self.loop.create_future()
            waits_for = self.drained
        done, _ = await asyncio.wait({waits_for}, timeout=timeout_seconds)
        return bool(done)

    def discard(self) -> None:
        """Drop pending messages, and accept no more."""
        self.close()
        self.backlog.clear()

    def abort(self) -> None:
        """Drop pending messages; the transport has ``close_seconds`` to send what it has buffered."""
        self.close()
        self.backlog.clear()
        self.on_failure = ignore
        if self.waiting:
            self.transport.abort()
        elif unsent_bytes(self.transport):
            self.loop.call_later(self.limits.close_seconds, self._abort_unsent)
        if self.send_task is not None:
            self.send_task.cancel()

    def _abort_unsent(self) -> None:
        """Abort the connection of a client that has not read the transport's buffer."""
        if unsent_bytes(self.transport):
            self.transport.abort()


class PushGroup:
    """Clients that receive the same messages."""

    __slots__ = ("batch", "changes", "outboxes", "writers")

    def __init__(self, outboxes: tuple[PushOutbox, ...]) -> None:
        self.batch: WriteBatch = outboxes[0].batch
        self.outboxes = outboxes
        self.changes = -1
        self.writers: tuple[Callable[[bytes], None], ...] = ()
        """The write functions of all outboxes; empty if one of them has to wait."""

    def write(self, publication: Publication, excluded: Collection[Outbox]) -> None:
        """Write a message at the end of this iteration of the loop."""
        self.batch.add(self, publication, excluded)

    def put(
        self, messages: list[Publication], data: bytes, excluded: Collection[Outbox] = ()
    ) -> None:
        """Write messages to all outboxes that are not excluded."""
        if self.changes != self.batch.changes:
            writers = tuple(map(WRITE_NOW, self.outboxes))
            self.writers = () if None in writers else writers
            self.changes = self.batch.changes
        if not self.writers:
            for outbox in self.outboxes:
                outbox.put(messages, data, excluded)
            return
        writers = self.writers
        rest, skipped = iter(writers), None
        if excluded:
            not_called = [o.write_now for o in excluded if isinstance(o, PushOutbox)]
            if len(not_called) == 1:
                (skipped,) = not_called
            else:
                rest = filterfalse(set(not_called).__contains__, writers)
        # PERF: each object that this loop touches is a cache miss per delivery, because the kernel runs
        #   between two writes; the outboxes would be two of four.
        write_now = writers[0]
        try:
            if skipped is None:
                for write_now in rest:
                    write_now(data)
            else:
                # PERF: nearly always one is excluded, the sender; an identity test costs the least.
                for write_now in rest:
                    if write_now is not skipped:
                        write_now(data)
        except Exception as error:
            failed = writers.index(write_now)
            self.outboxes[failed].on_failure(error)
            # NOTE: that may have changed how others are written.
            for outbox in self.outboxes[failed + 1 :]:
                outbox.put(messages, data, excluded)

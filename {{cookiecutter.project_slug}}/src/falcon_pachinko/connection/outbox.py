"""Outbound messages of a connection on any ASGI server: sent at once, or queued while ``send`` suspends."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Collection, Iterable
from types import FunctionType
from typing import Any, Protocol

from ..errors import OutboxFull
from ..limits import DEFAULT_LIMITS, Limits
from ..publication import EVENT, Publication
from ..support.tasks import ignore
from .counts import Sent
from .eager import Suspended, run_eagerly
from .inbox import Event

Send = Callable[[Event], Awaitable[None]]
OnFailure = Callable[[Exception], None]


class OutboxGroup(Protocol):
    """Outboxes of one kind that receive the same messages."""

    def write(self, publication: Publication, excluded: Collection[Outbox]) -> None:
        """Write a message to each outbox that is not excluded."""
        ...


class Outbox(Protocol):
    """The messages to one client, first in, first out, bounded."""

    limits: Limits
    used: bool
    """Whether a message has been written to this outbox, not to a group, since the owner set it to ``False``."""
    sent: int
    """The number of messages, see :class:`.counts.Sent`."""
    sent_bytes: int
    counts_groups: bool
    measures_bytes: bool

    @property
    def backlog(self) -> Backlog:
        """The pending messages."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether the server does not accept more messages for now."""
        ...

    @property
    def size_bytes(self) -> int:
        """The size of all pending messages, as far as the server tells."""
        ...

    @classmethod
    def group(cls, outboxes: Iterable[Any]) -> OutboxGroup:
        """Make a group of outboxes of this class."""
        ...

    def write(self, publication: Publication) -> None:
        """Pass a message to the server, or queue it behind pending ones; never raises.

        If the client cannot receive the message, ``on_failure`` is called, possibly later: with
        ``OutboxFull`` above the bounds, otherwise with the server's exception, such as an OSError for a
        lost connection.
        """
        ...

    def close(self) -> None:
        """Accept no more messages, except events; pending messages are still sent. Idempotent."""
        ...

    async def wait_drained(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the server has accepted all messages; cancellation does not affect them.

        Returns:
            Whether that happened within the timeout.
        """
        ...

    def discard(self) -> None:
        """Drop pending messages; a message that the server has begun to accept is completed."""
        ...

    def abort(self) -> None:
        """Drop pending messages and cancel the one that the server has begun to accept."""
        ...


class Backlog:
    """The pending messages of one client.

    Attributes:
        taken: The number of messages that have left the backlog.
    """

    __slots__ = ("messages", "size_bytes", "taken")

    def __init__(self) -> None:
        self.messages: list[Publication] = []
        self.size_bytes = 0
        self.taken = 0

    @property
    def count(self) -> int:
        """The number of pending messages."""
        return len(self.messages)

    def add(self, publication: Publication, limits: Limits) -> None:
        """Append a message.

        Raises:
            OutboxFull: The backlog exceeds the limits.
        """
        self.messages.append(publication)
        self.size_bytes += publication.size_bytes
        if len(self.messages) > limits.outbox_messages or self.size_bytes > limits.outbox_bytes:
            raise OutboxFull(
                f"{len(self.messages)} messages of {self.size_bytes} bytes are pending"
            )

    def pop(self) -> Publication:
        """Remove and return the oldest message."""
        publication = self.messages.pop(0)
        self.size_bytes -= publication.size_bytes
        self.taken += 1
        return publication

    def clear(self) -> None:
        """Drop all messages."""
        self.messages.clear()
        self.size_bytes = 0


class ASGIOutbox(Sent):
    """An outbox over the server's ``send``.

    The first step of each ``send`` runs in place, in a context of the connection's own. That is correct
    for a server's ``send``, which is a method. A plain function is a middleware's wrapper, which may need
    a task of its own (``asyncio.timeout`` does), so it gets one.

    Args:
        send: The server's ``send``.
        on_failure: Called with an exception when the client cannot receive a message.
    """

    __slots__ = (
        "backlog",
        "closed",
        "context",
        "drain_task",
        "limits",
        "on_failure",
        "send",
        "used",
        "waiting",
        "wrapped",
    )

    # PERF: a size costs more than the rest of the count; a server of this package has it anyway.
    counts_groups, measures_bytes = True, False

    def __init__(self, send: Send, on_failure: OnFailure) -> None:
        super().__init__()
        self.send = send
        self.wrapped = isinstance(send, FunctionType)
        self.on_failure = on_failure
        self.limits = DEFAULT_LIMITS
        self.context = contextvars.copy_context()
        self.backlog = Backlog()
        self.drain_task: asyncio.Task[None] | None = None
        self.waiting = False
        self.closed = False
        self.used = False

    @classmethod
    def group(cls, outboxes: Iterable[ASGIOutbox]) -> ASGIOutboxGroup:
        """Make a group of outboxes of this class."""
        return ASGIOutboxGroup(tuple(outboxes))

    @property
    def size_bytes(self) -> int:
        """The size of all pending messages; what the server itself buffers is not known."""
        return self.backlog.size_bytes

    def write(self, publication: Publication) -> None:
        """Pass a message to the server, or queue it behind pending ones; never raises."""
        if self.closed and publication.opcode != EVENT:
            return
        self.used = True
        if publication.opcode:  # it is not an EVENT
            self.sent += 1
        try:
            if self.waiting:
                self.backlog.add(publication, self.limits)
            elif self.wrapped:
                self.backlog.add(publication, self.limits)
                self._start_draining(None)
            else:
                # PERF: the property is a call; all members but the first find the event built.
                event = publication.asgi_event or publication.event
                suspended = self.context.run(run_eagerly, self.send(event))
                if suspended is not None:
                    self._start_draining(suspended)
        except Exception as error:
            self.on_failure(error)

    def close(self) -> None:
        """Accept no more messages, except events; pending messages are still sent. Idempotent."""
        self.closed = True

    def _start_draining(self, suspended: Suspended | None) -> None:
        self.waiting = True
        self.drain_task = asyncio.get_running_loop().create_task(
            self._drain(suspended), context=self.context
        )

    async def _drain(self, suspended: Suspended | None) -> None:
        """Complete the suspended ``send``, then send the backlog."""
        try:
            if suspended is not None:
                await suspended
            while self.backlog.messages:
                await self.send(self.backlog.pop().event)
        except Exception as error:
            self.on_failure(error)
        finally:
            self.drain_task = None
            self.waiting = False

    async def wait_drained(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the server has accepted all messages; cancellation does not affect them."""
        if self.drain_task is None:
            return True
        done, _ = await asyncio.wait({self.drain_task}, timeout=timeout_seconds)
        return bool(done)

    def discard(self) -> None:
        """Drop pending messages; a message that the server has begun to accept is completed."""
        self.backlog.clear()

    def abort(self) -> None:
        """Drop pending messages and cancel the one that the server has begun to accept."""
        self.discard()
        self.on_failure = ignore
        if self.drain_task is not None:
            self.drain_task.cancel()


class ASGIOutboxGroup:
    """Outboxes that are written one by one."""

    __slots__ = ("outboxes",)

    def __init__(self, outboxes: tuple[ASGIOutbox, ...]) -> None:
        self.outboxes = outboxes

    def write(self, publication: Publication, excluded: Collection[Outbox]) -> None:
        """Write a message to each outbox that is not excluded."""
        for outbox in self.outboxes:
            if outbox not in excluded:
                outbox.write(publication)

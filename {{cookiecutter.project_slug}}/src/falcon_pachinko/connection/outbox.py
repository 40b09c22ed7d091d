"""The way out on any ASGI server: straight through, or queued while the server makes us wait."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from types import FunctionType
from typing import Any, Protocol

from ..errors import OutboxFull
from ..limits import DEFAULT_LIMITS, Limits
from ..publication import EVENT, Publication
from .eager import Suspended, begin

# The server offers a faster way in and out under this name in scope["extensions"].
PUSH_EXTENSION = "falcon_pachinko.push"

Event = Mapping[str, Any]
Send = Callable[[Event], Awaitable[None]]
OnFailure = Callable[[Exception], None]


class AnyOutbox(Protocol):
    """Messages to one client, first in, first out, with a bound."""

    limits: Limits
    backlog: Backlog
    waiting: bool
    """Whether the server makes us wait."""

    def write(self, publication: Publication) -> None:
        """Give a message to the server, or let it wait behind those that wait already.

        It never raises. Where the client cannot take the message, ``on_failure`` is called, perhaps
        later: with ``OutboxFull`` when more waits than may, else with what the server raised, such as
        OSError when the client is gone.
        """

    def close(self) -> None:
        """Take no more messages, except events; those that wait still leave."""

    async def wait_drained(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the server has taken all messages; being cancelled does not disturb them.

        Returns:
            Whether it came to that in time.
        """

    def clear(self) -> None:
        """Drop what waits; what the server has begun to take goes on."""

    def stop(self) -> None:
        """Give up on what waits and on what the server has begun to take."""


class Backlog:
    """The messages that wait for one client, with the bounds of its limits.

    Attributes:
        taken: How many have left it so far.
    """

    __slots__ = ("messages", "size_bytes", "taken")

    def __init__(self) -> None:
        self.messages: list[Publication] = []
        self.size_bytes = 0
        self.taken = 0

    def add(self, publication: Publication, limits: Limits) -> None:
        """Let one more wait.

        Raises:
            OutboxFull: More waits than may.
        """
        self.messages.append(publication)
        self.size_bytes += publication.size_bytes
        if len(self.messages) > limits.outbox_messages or self.size_bytes > limits.outbox_bytes:
            raise OutboxFull(f"{len(self.messages)} messages with {self.size_bytes} bytes wait")

    def pop(self) -> Publication:
        """Take the one that has waited longest."""
        publication = self.messages.pop(0)
        self.size_bytes -= publication.size_bytes
        self.taken += 1
        return publication

    def clear(self) -> None:
        """Drop all."""
        self.messages.clear()
        self.size_bytes = 0


class Outbox:
    """Messages to one client, first in, first out, with a bound.

    The first step of each ``send`` is made in place, in a context of the connection's own. That is right
    for the ``send`` of a server, which is a method. A plain function is one that a middleware has put
    around it, and that may need a task of its own (``asyncio.timeout`` does): it gets one.

    Args:
        send: The server's ``send``.
        on_failure: Called with an error when the client cannot take a message.
    """

    __slots__ = (
        "backlog",
        "closed",
        "context",
        "drainer",
        "limits",
        "on_failure",
        "send",
        "waiting",
        "wrapped",
    )

    def __init__(self, send: Send, on_failure: OnFailure) -> None:
        self.send = send
        self.wrapped = isinstance(send, FunctionType)
        self.on_failure = on_failure
        self.limits = DEFAULT_LIMITS
        self.context = contextvars.copy_context()
        self.backlog = Backlog()
        self.drainer: asyncio.Task[None] | None = None
        self.waiting = False
        self.closed = False

    def write(self, publication: Publication) -> None:
        """Give a message to the server, or let it wait behind those that wait already."""
        if self.closed and publication.opcode != EVENT:
            return
        try:
            if self.waiting:
                self.backlog.add(publication, self.limits)
            elif self.wrapped:
                self.backlog.add(publication, self.limits)
                self.drain_behind(None)
            else:
                # PERF: the property is a call, and all but the first member find the event made.
                event = publication.asgi_event or publication.event
                suspended = self.context.run(begin, self.send(event))
                if suspended is not None:
                    self.drain_behind(suspended)
        except Exception as error:
            self.on_failure(error)

    def close(self) -> None:
        """Take no more messages, except events; those that wait still leave."""
        self.closed = True

    def drain_behind(self, suspended: Suspended | None) -> None:
        """Let a task send what waits, behind what has begun."""
        self.waiting = True
        self.drainer = asyncio.get_running_loop().create_task(
            self.drain(suspended), context=self.context
        )

    async def drain(self, suspended: Suspended | None) -> None:
        """Send what waits, one after the other; runs only while the server makes us wait."""
        try:
            if suspended is not None:
                await suspended
            while self.backlog.messages:
                await self.send(self.backlog.pop().event)
        except Exception as error:
            self.on_failure(error)
        finally:
            self.drainer = None
            self.waiting = False

    async def wait_drained(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the server has taken all messages; being cancelled does not disturb them."""
        if self.drainer is None:
            return True
        done, _ = await asyncio.wait({self.drainer}, timeout=timeout_seconds)
        return bool(done)

    def clear(self) -> None:
        """Drop what waits; what the server has begun to take goes on."""
        self.backlog.clear()

    def stop(self) -> None:
        """Give up on what waits and on what the server has begun to take."""
        self.clear()
        self.on_failure = ignore
        if self.drainer is not None:
            self.drainer.cancel()


def ignore(_: object) -> None:
    """Nobody wants to know any more: what takes the place of a callback frees whom it called."""

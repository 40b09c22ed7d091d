"""The way out on any ASGI server: straight through, or queued while the server makes us wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from .errors import OutboxFull
from .limits import Limits
from .messages import Outgoing
from .suspension import Suspended, begin

# The server offers a faster way out under this name in scope["extensions"].
PUSH_EXTENSION = "falcon_pachinko.push"

Event = Mapping[str, Any]
Send = Callable[[Event], Awaitable[None]]


class AnyOutbox(Protocol):
    """Messages to one client, first in, first out, with a bound."""

    @property
    def waiting(self) -> bool:
        """Whether the server makes us wait."""

    def write(self, outgoing: Outgoing, limits: Limits) -> None:
        """Give a message to the server, or let it wait behind those that wait already.

        Raises:
            OutboxFull: More waits than may.
            Exception: Whatever the server raises, such as OSError when the client is gone.
        """

    async def wait_drained(self, timeout_seconds: float | None = None) -> None:
        """Wait until the server has taken all messages; being cancelled does not disturb them."""

    def clear(self) -> None:
        """Drop what waits; what the server has begun to take goes on."""

    def stop(self) -> None:
        """Give up on what waits and on what the server has begun to take."""


class Outbox:
    """Messages to one client, first in, first out, with a bound.

    Args:
        send: The server's ``send``.
        on_lost: Called with what ``send`` raised while a task of this outbox awaited it.
    """

    __slots__ = ("drainer", "on_lost", "queue", "send", "size_bytes")

    def __init__(self, send: Send, on_lost: Callable[[Exception], None]) -> None:
        self.send = send
        self.on_lost = on_lost
        self.queue: deque[Outgoing] = deque()
        self.size_bytes = 0
        self.drainer: asyncio.Task[None] | None = None

    def write(self, outgoing: Outgoing, limits: Limits) -> None:
        """Give a message to the server, or let it wait behind those that wait already.

        Raises:
            OutboxFull: More waits than may.
            Exception: Whatever the server raises, such as OSError when the client is gone.
        """
        if self.drainer is None:
            suspended = begin(self.send(outgoing.event))
            if suspended is not None:
                self.drainer = asyncio.create_task(self.drain(suspended))
            return
        self.queue.append(outgoing)
        self.size_bytes += outgoing.size_bytes
        if len(self.queue) > limits.outbox_messages or self.size_bytes > limits.outbox_bytes:
            raise OutboxFull(f"{len(self.queue)} messages with {self.size_bytes} bytes wait")

    @property
    def waiting(self) -> bool:
        """Whether the server makes us wait."""
        return self.drainer is not None

    async def drain(self, suspended: Suspended) -> None:
        """Send what waits, one after the other; runs only while the server makes us wait."""
        try:
            await suspended
            while self.queue:
                outgoing = self.queue.popleft()
                self.size_bytes -= outgoing.size_bytes
                await self.send(outgoing.event)
        except Exception as error:
            self.on_lost(error)
        finally:
            self.drainer = None

    async def wait_drained(self, timeout_seconds: float | None = None) -> None:
        """Wait until the server has taken all messages; being cancelled does not disturb them."""
        if self.drainer is not None:
            await asyncio.wait({self.drainer}, timeout=timeout_seconds)

    def clear(self) -> None:
        """Drop what waits; what the server has begun to take goes on."""
        self.queue.clear()
        self.size_bytes = 0

    def stop(self) -> None:
        """Give up on what waits and on what the server has begun to take."""
        self.clear()
        if self.drainer is not None:
            self.drainer.cancel()

"""The way in: one reader, whom our own close can wake."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .outbox import Event

Receive = Callable[[], Awaitable[Event]]


class Inbox:
    """What the server has received from one client, read by one task.

    Args:
        receive: The server's ``receive``.
    """

    __slots__ = ("interrupted", "reader", "reading", "receive")

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.reader: asyncio.Task[Any] | None = None
        self.reading = False
        self.interrupted = False

    def open(self) -> None:
        """From now on the calling task is the one that reads."""
        self.reader = asyncio.current_task()

    async def next_event(self) -> Event | None:
        """Wait for what comes next; ``None`` when it was interrupted."""
        self.reading = True
        try:
            return await self.receive()
        except asyncio.CancelledError:
            # NOTE: our own interruption is taken back; a cancellation from outside goes on.
            if self.interrupted and self.reader is not None and self.reader.uncancel() == 0:
                return None
            raise
        finally:
            self.reading = False

    def interrupt(self) -> None:
        """Wake the reader, if it waits for something to come; a running handler is left alone."""
        if self.reading and self.reader is not None:
            self.interrupted = True
            self.reader.cancel()

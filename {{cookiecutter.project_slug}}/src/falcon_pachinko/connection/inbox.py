"""The way in on any ASGI server: one reader, whom our own close can wake, and read-ahead behind slow handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from ..limits import DEFAULT_LIMITS, Limits
from ..messages import size_bytes_of
from ..support.loop_local import PerLoop
from .outbox import ignore

Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Message = str | bytes

# A handler that is seen busy with the same message at two ticks is slow. Two ticks are well within
# the shortest ping interval that anybody uses, one second.
TICK_SECONDS = 0.25


class AnyInbox(Protocol):
    """Messages of one client in the order in which it sent them, read by one task."""

    limits: Limits

    @property
    def full(self) -> bool:
        """Whether the client has to wait now."""

    def watch(self) -> None:
        """See a client that gives up while ``on_connect`` runs."""

    async def stop_watching(self) -> None:
        """Let the event loop have a last look at the client; let go of what ``watch`` has begun."""

    def open(self) -> None:
        """From now on the calling task is the one that reads."""

    async def next(self) -> Message | None:
        """Wait for the next message; ``None`` once there is no more, or after an interruption."""

    def interrupt(self) -> None:
        """Wake the reader, if it waits for something to come; a running handler is left alone."""

    def close(self) -> None:
        """Read no more."""


class Inbox:
    """What the server has received from one client; direct, except behind a slow handler.

    Servers read nothing from a client whose last message the application has not taken yet, not even
    the answer to their own ping, and then give up a healthy client. So what comes while a handler is
    slow is read ahead, within bounds, and a client that goes meanwhile is noticed.

    Args:
        receive: The server's ``receive``.
        on_disconnect: Called with the server's event as soon as the client is known to be gone, which
            may be before the reader has had all messages.
    """

    __slots__ = (
        "ahead",
        "busy",
        "ended",
        "interrupted",
        "limits",
        "on_disconnect",
        "overseer",
        "queue",
        "reader",
        "reading",
        "receive",
    )

    def __init__(self, receive: Receive, on_disconnect: Callable[[Event], None]) -> None:
        self.receive = receive
        self.on_disconnect = on_disconnect
        self.limits = DEFAULT_LIMITS
        self.queue: list[Message] = []
        self.reader: asyncio.Task[Any] | None = None
        self.ahead: asyncio.Task[None] | None = None
        self.overseer: Overseer | None = None
        self.reading = False
        self.busy = False
        self.interrupted = False
        self.ended = False

    def watch(self) -> None:
        """See a client that gives up while ``on_connect`` runs: until the accept nothing else can come."""
        self.begin_ahead()

    async def stop_watching(self) -> None:
        """Let the event loop have a last look at the client; let go of what ``watch`` has begun."""
        if self.ahead is not None:
            await look()
            self.ahead.cancel()
            await asyncio.wait({self.ahead})
            self.ahead = None

    def open(self) -> None:
        """From now on the calling task is the one that reads."""
        self.reader = asyncio.current_task()
        self.overseer = OVERSEERS.of(asyncio.get_running_loop())
        self.overseer.add(self)

    async def next(self) -> Message | None:
        """Wait for the next message; ``None`` once there is no more, or after an interruption."""
        if self.interrupted:
            return None
        self.busy = False
        self.reading = True
        try:
            if self.ahead is not None:
                await self.wait_ahead(self.ahead)
            if self.queue:
                return self.queue.pop(0)
            return None if self.ended else self.unpack(await self.receive())
        except asyncio.CancelledError:
            # NOTE: our own interruption is taken back; a cancellation from outside goes on.
            if self.interrupted and self.reader is not None and self.reader.uncancel() == 0:
                return None
            raise
        finally:
            self.reading = False

    async def wait_ahead(self, ahead: asyncio.Task[None]) -> None:
        """Wait until the task that reads ahead has something; once it has nothing any more, forget it."""
        if not self.queue:
            await asyncio.wait({ahead})
            ahead.result()
            if not self.queue:
                self.ahead = None

    def begin_ahead(self) -> None:
        """Let a task read ahead; what it raises is for who reads, if anybody still does."""
        self.ahead = asyncio.create_task(self.read_ahead())
        self.ahead.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def read_ahead(self) -> None:
        """Read until the reader is back or the bound is reached."""
        while not (self.reading or self.ended or self.full):
            message = self.unpack(await self.receive())
            if message is not None:
                self.queue.append(message)

    @property
    def full(self) -> bool:
        """Whether the client has to wait now."""
        return is_full(self.queue, self.limits)

    def unpack(self, event: Event) -> Message | None:
        """The message of an event; ``None`` when it says that the client is gone."""
        if event["type"] == "websocket.receive":
            text: str | None = event.get("text")
            return event["bytes"] if text is None else text
        self.ended = True
        self.on_disconnect(event)
        return None

    def check(self) -> None:
        """Read ahead where the handler has been busy since the last tick."""
        if self.reading or self.interrupted or self.ended:
            return
        if not self.busy:
            self.busy = True
        elif self.ahead is None or (self.ahead.done() and not self.full):
            self.begin_ahead()

    def interrupt(self) -> None:
        """Wake the reader, if it waits for something to come; a running handler is left alone."""
        self.interrupted = True
        if self.reading and self.reader is not None:
            self.reader.cancel()

    def close(self) -> None:
        """Read no more."""
        self.on_disconnect = ignore
        if self.overseer is not None:
            self.overseer.inboxes.discard(self)
        if self.ahead is not None:
            self.ahead.cancel()


class Overseer:
    """Looks after the inboxes of an event loop a few times a second: a timer for each message costs more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.inboxes: set[Inbox] = set()
        self.ticking = False

    def add(self, inbox: Inbox) -> None:
        """Look after one more, until it is discarded."""
        self.inboxes.add(inbox)
        if not self.ticking:
            self.ticking = True
            self.loop.call_later(TICK_SECONDS, self.tick)

    def tick(self) -> None:
        """Look at all of them."""
        for inbox in self.inboxes:
            inbox.check()
        self.ticking = bool(self.inboxes)
        if self.ticking:
            self.loop.call_later(TICK_SECONDS, self.tick)


OVERSEERS = PerLoop(Overseer)


async def look() -> None:
    """Let the event loop find out who has gone: one turn to look, and one to tell."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def is_full(messages: list[Any], limits: Limits) -> bool:
    """Whether so much has been read ahead that the client has to wait."""
    if len(messages) >= limits.inbox_messages:
        return True
    size_bytes = sum(size_bytes_of(m) for m in messages if isinstance(m, (str, bytes)))
    return size_bytes >= limits.inbox_bytes

"""Inbound messages of a connection on any ASGI server: one reader, and read-ahead behind slow handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from ..limits import DEFAULT_LIMITS, Limits
from ..messages import size_bytes_of
from ..support.loop_local import PerLoop
from ..support.tasks import call_later, ignore
from .counts import Received

Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Message = str | bytes

# A handler that is busy with one message at two checks is slow; both fit into a ping interval of a second.
CHECK_SECONDS = 0.25


class Inbox(Protocol):
    """The messages of one client in their order, read by one task."""

    @property
    def limits(self) -> Limits:
        """The bounds of the connection."""
        ...

    @limits.setter
    def limits(self, limits: Limits) -> None: ...

    @property
    def received(self) -> int:
        """The number of messages from the client."""
        ...

    @property
    def received_bytes(self) -> int:
        """Their size."""
        ...

    @property
    def full(self) -> bool:
        """Whether nothing more is read from the client for now."""
        ...

    @property
    def size_bytes(self) -> int:
        """The size of all data that waits for a handler."""
        ...

    def pause(self) -> None:
        """Read nothing more from the client until :meth:`resume`; messages that were read are handled."""

    def resume(self) -> None:
        """End a pause. Idempotent."""

    def expect_reply(self, take: Callable[[Message], bool]) -> None:
        """Read ahead of the running handler, and offer each message to ``take``: one that it takes is not handled."""

    def start_watching(self) -> None:
        """Detect a disconnect while ``on_connect`` runs."""

    async def stop_watching(self) -> None:
        """Let the event loop report a disconnect that has happened; stop what ``start_watching`` started."""

    def start(self) -> None:
        """Make the calling task the reader."""

    async def next(self) -> Message | None:
        """Wait for the next message; return ``None`` at the end or after :meth:`interrupt`."""
        ...

    def interrupt(self) -> None:
        """Wake the reader if it waits for a message; a running handler is not disturbed."""

    def close(self) -> None:
        """Stop reading."""


class ASGIInbox(Received):
    """The messages that the server's ``receive`` returns: read directly, ahead only behind a slow handler.

    A server reads nothing from a client whose last message the application has not received yet, not
    even a pong, and then closes a healthy connection. Therefore messages are read ahead of a slow
    handler, within bounds, and a disconnect meanwhile is detected.

    Args:
        receive: The server's ``receive``.
        on_disconnect: Called with the server's event when the disconnect is known, which may be before
            the reader has received all messages.
    """

    __slots__ = (
        "ahead",
        "busy",
        "ended",
        "interrupted",
        "limits",
        "on_disconnect",
        "paused",
        "queue",
        "reader",
        "reading",
        "receive",
        "supervisor",
        "take",
    )

    def __init__(self, receive: Receive, on_disconnect: Callable[[Event], None]) -> None:
        super().__init__()
        self.receive = receive
        self.on_disconnect = on_disconnect
        self.limits = DEFAULT_LIMITS
        self.queue: list[Message] = []
        self.reader: asyncio.Task[Any] | None = None
        self.ahead: asyncio.Task[None] | None = None
        self.supervisor: ReadAheadSupervisor | None = None
        self.take: Callable[[Message], bool] | None = None
        self.reading = False
        self.busy = False
        self.interrupted = False
        self.paused = False
        self.ended = False

    def expect_reply(self, take: Callable[[Message], bool]) -> None:
        """Read ahead of the running handler at once, and offer each message to ``take``."""
        self.take = take
        if not (self.reading or self.interrupted or self.ended):
            self._read_ahead_unless_full()

    def start_watching(self) -> None:
        """Detect a disconnect while ``on_connect`` runs: before the accept no other event can arrive."""
        self._start_reading_ahead()

    async def stop_watching(self) -> None:
        """Let the event loop report a disconnect that has happened; stop the read-ahead task."""
        if self.ahead is not None:
            await poll_disconnect()
            self.ahead.cancel()
            await asyncio.wait({self.ahead})
            self.ahead = None

    def start(self) -> None:
        """Make the calling task the reader."""
        self.reader = asyncio.current_task()
        self.supervisor = SUPERVISORS.of(asyncio.get_running_loop())
        self.supervisor.add(self)

    async def next(self) -> Message | None:
        """Wait for the next message; return ``None`` at the end or after :meth:`interrupt`."""
        if self.interrupted:
            return None
        self.busy = False
        self.reading = True
        try:
            if self.ahead is not None:
                await self._wait_ahead(self.ahead)
            if self.queue:
                return self.queue.pop(0)
            while not self.ended:
                event = await self.receive()
                text: str | None = event.get("text")
                if text is not None and self.take is None:  # PERF: most messages, without a call
                    self.received += 1
                    return text
                if (message := self._unpack(event)) is not None:
                    return message
            return None
        except asyncio.CancelledError:
            # NOTE: interrupt() cancels the reader; that cancellation is taken back, any other propagates.
            if self.interrupted and self.reader is not None and self.reader.uncancel() == 0:
                return None
            raise
        finally:
            self.reading = False

    async def _wait_ahead(self, ahead: asyncio.Task[None]) -> None:
        """Wait until the read-ahead task has a message or has finished."""
        if not self.queue:
            await asyncio.wait({ahead})
            ahead.result()
            if not self.queue:
                self.ahead = None

    def _start_reading_ahead(self) -> None:
        self.ahead = asyncio.create_task(self._read_ahead())
        # NOTE: the exception is for the reader; without one, it is marked as retrieved.
        self.ahead.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _read_ahead(self) -> None:
        """Read until the reader is back or the bound is reached."""
        while not (self.reading or self.ended or self.full):
            message = self._unpack(await self.receive())
            if message is not None:
                self.queue.append(message)

    @property
    def full(self) -> bool:
        """Whether nothing more is read from the client for now."""
        return self.paused or is_full(self.queue, self.limits)

    @property
    def size_bytes(self) -> int:
        """The size of all messages that wait for a handler."""
        return size_of(self.queue)

    def pause(self) -> None:
        """Read no more messages ahead of a slow handler until :meth:`resume`."""
        self.paused = True

    def resume(self) -> None:
        """End a pause."""
        self.paused = False

    def _unpack(self, event: Event) -> Message | None:
        """Return the message of an event, or ``None`` for a disconnect and for a message that has been taken."""
        if event["type"] == "websocket.receive":
            text: str | None = event.get("text")
            message: Message = event["bytes"] if text is None else text
            self.received += 1
            return None if self.take is not None and self.take(message) else message
        self.ended = True
        self.on_disconnect(event)
        return None

    def check(self) -> None:
        """Start reading ahead if the handler has been busy since the last check."""
        if self.reading or self.interrupted or self.ended:
            return
        if self.busy:
            self._read_ahead_unless_full()
        self.busy = True

    def _read_ahead_unless_full(self) -> None:
        if self.ahead is None or (self.ahead.done() and not self.full):
            self._start_reading_ahead()

    def interrupt(self) -> None:
        """Wake the reader if it waits for a message; a running handler is not disturbed."""
        self.interrupted = True
        if self.reading and self.reader is not None:
            self.reader.cancel()
        if self.ahead is not None:
            # NOTE: granian sends no close frame while a receive() is pending.
            self.ahead.cancel()

    def close(self) -> None:
        """Stop reading."""
        self.on_disconnect = ignore
        if self.supervisor is not None:
            self.supervisor.inboxes.discard(self)
        if self.ahead is not None:
            self.ahead.cancel()


class ReadAheadSupervisor:
    """Checks the inboxes of an event loop a few times a second; a timer per message would cost more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.inboxes: set[ASGIInbox] = set()
        self.scheduled = False

    def add(self, inbox: ASGIInbox) -> None:
        """Check an inbox until it is discarded."""
        self.inboxes.add(inbox)
        if not self.scheduled:
            self.scheduled = True
            call_later(self.loop, CHECK_SECONDS, self._check_all)

    def _check_all(self) -> None:
        for inbox in self.inboxes:
            inbox.check()
        self.scheduled = bool(self.inboxes)
        if self.scheduled:
            call_later(self.loop, CHECK_SECONDS, self._check_all)


SUPERVISORS = PerLoop(ReadAheadSupervisor)


async def poll_disconnect() -> None:
    """Let the event loop detect a disconnect: one iteration to poll the sockets, one to run the callback."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def is_full(messages: list[Any], limits: Limits) -> bool:
    """Return whether the messages read ahead have reached the bound."""
    return len(messages) >= limits.inbox_messages or size_of(messages) >= limits.inbox_bytes


def size_of(messages: list[Any]) -> int:
    """Return the size of messages, among which may be events."""
    # PERF: almost no connection has any, and each is asked once a second.
    return sum(size_bytes_of(m) for m in messages if isinstance(m, (str, bytes))) if messages else 0

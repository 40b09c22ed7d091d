"""Inbound messages on uvicorn: those of one client as they are parsed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ..connection.inbox import Event, Message, is_full, poll_disconnect, size_of
from ..limits import DEFAULT_LIMITS

# Reasons for which nothing is read from a client: its messages wait for a handler, or the process buffers
# too much.
INBOX_FULL, BUDGET_EXCEEDED = 1, 2


class Input(Protocol):
    """The protocol that parses what the client sends."""

    loop: asyncio.AbstractEventLoop
    frames: list[Any]
    unparsed: bytes
    paused_by: int

    def pause_reading(self, reason: int) -> None:
        """Read nothing more from the client until the reason ends."""
        ...

    def resume_reading(self, reason: int) -> None:
        """End a reason for a pause."""
        ...


class PushInbox:
    """The messages of one client as they are parsed: the promises of :class:`..connection.inbox.Inbox`.

    It replaces uvicorn's queue of events (``put_nowait``, ``get``, ``empty``), which pauses reading after
    each message until the application receives it; this one pauses at the bound of the limits.
    """

    __slots__ = ("events", "interrupted", "limits", "on_disconnect", "protocol", "waiter")

    def __init__(self, protocol: Input) -> None:
        self.protocol = protocol
        self.events: list[Message | Event] = []
        self.limits = DEFAULT_LIMITS
        self.on_disconnect: Callable[[Event], None] | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.interrupted = False

    def attach(self, on_disconnect: Callable[[Event], None]) -> None:
        """Set the callback for a disconnect; it is called at once for an earlier one."""
        self.on_disconnect = on_disconnect
        for event in self.events:
            self._check_disconnect(event)

    def _check_disconnect(self, event: Message | Event) -> None:
        """Report a disconnect before the reader reaches it."""
        if isinstance(event, (str, bytes)) or self.on_disconnect is None:
            return
        if event["type"] == "websocket.disconnect":
            self.on_disconnect(event)

    def put_nowait(self, event: Event) -> None:
        """Append an event of uvicorn."""
        self.events.append(event)
        self._check_disconnect(event)
        self._wake()

    async def get(self) -> Event:
        """Wait for the next event: the result of ``receive`` for Falcon."""
        while not self.events:
            await self._wait_event()
        event = self.events.pop(0)
        if self.protocol.paused_by and not self.events:
            self.protocol.resume_reading(INBOX_FULL)
        if isinstance(event, str):
            return {"type": "websocket.receive", "text": event}
        if isinstance(event, bytes):
            return {"type": "websocket.receive", "bytes": event}
        return event

    def empty(self) -> bool:
        """Return whether no event is pending."""
        return not self.events

    def feed(self, message: Message) -> None:
        """Append a message; pause reading at the bound of messages that wait for a busy handler."""
        self.events.append(message)
        if self.waiter is not None:
            self._wake()
        elif self.full:
            self.protocol.pause_reading(INBOX_FULL)

    @property
    def full(self) -> bool:
        """Whether nothing more is read from the client for now."""
        return is_full(self.events, self.limits)

    @property
    def size_bytes(self) -> int:
        """The size of all data that waits for a handler, with that of incomplete messages."""
        protocol = self.protocol
        return size_of(self.events) + sum(map(len, protocol.frames)) + len(protocol.unparsed)

    def pause(self) -> None:
        """Read nothing more from the client until :meth:`resume`."""
        self.protocol.pause_reading(BUDGET_EXCEEDED)

    def resume(self) -> None:
        """End a pause."""
        self.protocol.resume_reading(BUDGET_EXCEEDED)

    def _wait_event(self) -> asyncio.Future[None]:
        self.waiter = waiter = self.protocol.loop.create_future()
        return waiter

    def _wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def start_watching(self) -> None:
        """Do nothing: uvicorn reports a disconnect at once."""

    async def stop_watching(self) -> None:
        """Let the event loop report a disconnect that has happened."""
        await poll_disconnect()

    def start(self) -> None:
        """Do nothing: the task that calls :meth:`next` is the reader."""

    async def next(self) -> Message | None:
        """Wait for the next message; return ``None`` at the end or after :meth:`interrupt`."""
        while not self.events:
            if self.interrupted:
                return None
            await self._wait_event()
        if self.interrupted:
            return None
        message = self.events.pop(0)
        if self.protocol.paused_by and not self.events:
            self.protocol.resume_reading(INBOX_FULL)
        if isinstance(message, (str, bytes)):
            return message
        self.interrupted = True
        return None

    def interrupt(self) -> None:
        """Wake the reader if it waits for a message; a running handler is not disturbed."""
        self.interrupted = True
        self._wake()

    def close(self) -> None:
        """Stop reading: later messages are dropped."""
        self.interrupted = True
        self.events.clear()
        self.on_disconnect = None

"""One client: what waits for it, in which order it gets that, and how it ends."""

from __future__ import annotations

import asyncio
import enum
import logging
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from falcon import WebSocketDisconnected

from .errors import OutboxFull, check_close_code, shorten_close_reason
from .limits import Limits
from .messages import Outgoing
from .suspension import Suspended, begin

logger = logging.getLogger(__name__)

Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

NORMAL_CLOSURE = 1000
NO_STATUS_RECEIVED = 1005
SLOW_READER = 4008


class State(enum.Enum):
    """Where a connection is in its life."""

    CONNECTING = enum.auto()
    """Nobody has accepted yet: what is sent is held back."""
    OPEN = enum.auto()
    LOST = enum.auto()
    """The client is gone, but what it said before may still be read."""
    CLOSED = enum.auto()


class Connection:
    """One WebSocket client, from the handshake to the end; what handlers know as ``ws``.

    Everything that is sent to it, by its own handlers or by a room, leaves in the order in which it was
    sent. Where the server makes us wait, messages wait in an outbox with the bounds of
    :class:`~falcon_pachinko.limits.Limits`; a client that lets it overflow is closed with 4008.

    Attributes:
        id: A name for this connection that no other one has.
        user: Whose connection this is; set it in ``on_connect`` before joining rooms. Presence counts users.
        limits: The bounds in force.
        close_code: The code that we closed with, else the one that the server reported; ``None`` before.
    """

    __slots__ = (
        "accept_event",
        "accepted",
        "asgi_receive",
        "asgi_send",
        "close_code",
        "drainer",
        "finished",
        "handshake_answered",
        "heard",
        "id",
        "interrupted",
        "limits",
        "outbox",
        "reader",
        "reading",
        "state",
        "user",
        "waiting_bytes",
    )

    def __init__(self, receive: Receive, send: Send) -> None:
        self.id = uuid.uuid4().hex
        self.user: str | None = None
        self.limits = Limits()
        self.state = State.CONNECTING
        self.close_code: int | None = None
        self.accepted = False
        self.asgi_receive = receive
        self.asgi_send = send
        self.handshake_answered = False
        self.accept_event: Event = {"type": "websocket.accept"}
        self.outbox: deque[Outgoing] = deque()
        self.heard: list[Outgoing] = []
        self.waiting_bytes = 0
        self.drainer: asyncio.Task[None] | None = None
        self.reader: asyncio.Task[Any] | None = None
        self.reading = False
        self.interrupted = False
        self.finished = False

    def __repr__(self) -> str:
        return f"<Connection {self.id} user={self.user!r} {self.state.name.lower()}>"

    @property
    def closed(self) -> bool:
        """Whether either side has closed the connection."""
        return self.state is State.CLOSED or self.state is State.LOST

    @property
    def visible(self) -> bool:
        """Whether others may know of it: from the moment in which ``on_connect`` has accepted."""
        return self.accepted

    # --- what handlers call

    async def send_media(self, media: object) -> None:
        """Send a :class:`~falcon_pachinko.messages.Message` or anything that JSON can hold.

        It returns at once unless the server makes us wait; then it waits until everything that was
        sent so far has left, so that a handler cannot outrun its own client. In ``on_connect`` the
        message is held back until the handshake is accepted.

        Raises:
            falcon.WebSocketDisconnected: The connection is closed.
            OutboxFull: ``on_connect`` has sent more than may wait.
            TypeError: The message holds something that JSON cannot.
        """
        await self.send(Outgoing(media))

    async def send_text(self, payload: str) -> None:
        """Send a text as it is; otherwise like :meth:`send_media`."""
        await self.send(Outgoing.of_text(payload))

    async def send_data(self, payload: bytes) -> None:
        """Send a binary message; otherwise like :meth:`send_media`."""
        await self.send(Outgoing.of_bytes(bytes(payload)))

    async def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Choose, in ``on_connect``, what the accepting answer carries; returning ``True`` sends it.

        Args:
            subprotocol: One of those that the client offered.
            headers: Names and values in ASCII.

        Raises:
            RuntimeError: The handshake has been answered.
        """
        if self.handshake_answered or self.state is not State.CONNECTING:
            raise RuntimeError("the handshake has been answered: call accept() in on_connect, once")
        self.accept_event = {
            "type": "websocket.accept",
            "subprotocol": subprotocol,
            "headers": [
                (name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers
            ],
        }

    async def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close the connection; what was sent before still leaves first, for ``close_seconds`` at most.

        Before the handshake is accepted this refuses it (HTTP 403). Closing twice does nothing.

        Args:
            code: 1000 by default.
            reason: A sentence for people, cut off at 123 bytes of UTF-8.

        Raises:
            ValueError: The code is not one that an endpoint may send.
        """
        code = check_close_code(NORMAL_CLOSURE if code is None else code)
        await self.close_with(
            {"type": "websocket.close", "code": code, "reason": shorten_close_reason(reason or "")}
        )

    # --- what the manager and the resource call

    async def send(self, outgoing: Outgoing) -> None:
        """Send a message of this connection's own handlers: see :meth:`send_media`."""
        if self.state is State.OPEN:
            self.write(outgoing)
            if self.drainer is not None:
                await self.wait_drained()
        elif self.state is State.CONNECTING:
            self.waiting_bytes += outgoing.size_bytes
            self.outbox.append(outgoing)
            if self.exceeds_limits():
                raise OutboxFull(
                    f"on_connect has sent {len(self.outbox)} messages with {self.waiting_bytes} bytes: the limits are"
                    f" {self.limits.outbox_messages} and {self.limits.outbox_bytes}; send the rest from a handler"
                )
        else:
            raise WebSocketDisconnected(self.close_code)

    def deliver(self, outgoing: Outgoing) -> None:
        """Send a message of somebody else (a room, another connection): never waits, never raises."""
        if self.state is State.OPEN:
            self.write(outgoing)
        elif self.state is State.CONNECTING:
            self.waiting_bytes += outgoing.size_bytes
            self.heard.append(outgoing)
            if self.exceeds_limits():
                self.abandon(SLOW_READER, "too many messages while connecting")

    async def open(self) -> None:
        """Accept the handshake and send what was held back; what rooms said meanwhile stays held.

        Raises:
            OSError: The server says that the client is gone (ASGI spec, "send" after a disconnect).
        """
        if not self.handshake_answered:
            await self.asgi_send(self.accept_event)
            self.handshake_answered = True
        if self.closed:
            return
        self.state = State.OPEN
        self.accepted = True
        own, self.outbox = self.outbox, deque()
        self.waiting_bytes = 0
        for outgoing in own:
            self.write(outgoing)

    def release_heard(self) -> None:
        """Send what rooms said while the connection was being made."""
        heard, self.heard = self.heard, []
        for outgoing in heard:
            self.deliver(outgoing)

    async def receive(self) -> str | bytes | None:
        """Wait for the next message; ``None`` once the connection has ended."""
        if self.state is State.CLOSED:
            return None
        self.reader = asyncio.current_task()
        self.reading = True
        try:
            event = await self.asgi_receive()
        except asyncio.CancelledError:
            # NOTE: our own interruption is taken back; a cancellation from outside goes on.
            if self.interrupted and self.reader is not None and self.reader.uncancel() == 0:
                return None
            raise
        finally:
            self.reading = False
        if event["type"] == "websocket.receive":
            text: str | None = event.get("text")
            return event["bytes"] if text is None else text
        self.mark_disconnected(event)
        return None

    async def wait_vanished(self) -> None:
        """Wait until the client gives up during the handshake; nothing else can arrive before it is accepted."""
        self.mark_disconnected(await self.asgi_receive())

    async def reject(self, code: int, reason: str) -> None:
        """Close so that the client sees why: before the handshake is answered this accepts it first."""
        self.drop_held()
        if not self.handshake_answered:
            await self.asgi_send(self.accept_event)
            self.handshake_answered = True
        await self.close(code, reason)

    def abandon(self, code: int, reason: str) -> None:
        """Close without waiting; what waits for the client is dropped."""
        if self.closed:
            return
        self.state = State.CLOSED
        self.close_code = code
        self.drop_held()
        logger.info("%r is closed with %d: %s", self, code, reason)
        self.write(Outgoing.of_event({"type": "websocket.close", "code": code, "reason": reason}))
        self.interrupt()

    async def end(self) -> None:
        """Let what was sent leave, for ``close_seconds`` at most, then let go of the client."""
        try:
            await self.wait_drained(self.limits.close_seconds)
        finally:
            self.state = State.CLOSED
            if self.drainer is not None:
                self.drainer.cancel()

    # --- what Falcon calls

    async def forward(self, event: Event) -> None:
        """The ASGI ``send`` that Falcon gets: it learns here how Falcon answers, and never closes twice."""
        if event["type"] == "websocket.close":
            await self.close_with(event)
        else:
            await self.asgi_send(event)
            self.handshake_answered = True

    # --- how messages leave

    def write(self, outgoing: Outgoing) -> None:
        """Give a message to the server, or let it wait behind those that wait already."""
        if self.drainer is not None:
            self.outbox.append(outgoing)
            self.waiting_bytes += outgoing.size_bytes
            if self.exceeds_limits():
                self.abandon(SLOW_READER, "reads too slowly")
            return
        try:
            suspended = begin(self.asgi_send(outgoing.event))
        except Exception as error:
            self.mark_lost(error)
        else:
            if suspended is not None:
                self.drainer = asyncio.create_task(self.drain(suspended), name=f"drain {self.id}")

    async def drain(self, suspended: Suspended) -> None:
        """Send what waits, one after the other; runs only while the server makes us wait."""
        try:
            await suspended
            while self.outbox:
                outgoing = self.outbox.popleft()
                self.waiting_bytes -= outgoing.size_bytes
                await self.asgi_send(outgoing.event)
        except Exception as error:
            self.mark_lost(error)
        finally:
            self.drainer = None

    async def wait_drained(self, timeout_seconds: float | None = None) -> None:
        """Wait until the server has taken all messages; being cancelled does not disturb them."""
        if self.drainer is not None:
            await asyncio.wait({self.drainer}, timeout=timeout_seconds)

    async def close_with(self, event: Event) -> None:
        """Send a close event behind what waits, once."""
        if self.closed:
            return
        if self.state is State.CONNECTING:
            self.drop_held()
        self.state = State.CLOSED
        self.close_code = event["code"]
        self.write(Outgoing.of_event(event))
        self.interrupt()
        await self.wait_drained(self.limits.close_seconds)

    def exceeds_limits(self) -> bool:
        """Whether more waits than may."""
        return (
            self.waiting_bytes > self.limits.outbox_bytes
            or len(self.outbox) + len(self.heard) > self.limits.outbox_messages
        )

    def interrupt(self) -> None:
        """Wake the task that reads, if it waits for a message; a running handler is left alone."""
        if self.reading and self.reader is not None:
            self.interrupted = True
            self.reader.cancel()

    def mark_lost(self, error: Exception) -> None:
        """The server cannot reach the client any more; it says so itself to who reads."""
        logger.debug("%r is lost", self, exc_info=error)
        if self.state is not State.CLOSED:
            self.state = State.LOST
        self.drop_held()

    def drop_held(self) -> None:
        """Forget what waits."""
        self.outbox.clear()
        self.heard.clear()
        self.waiting_bytes = 0

    def mark_disconnected(self, event: Event) -> None:
        """Remember why the client is gone; a code that we closed with counts more."""
        self.state = State.CLOSED
        if self.close_code is None:
            self.close_code = event.get("code") or NO_STATUS_RECEIVED

"""One client: in which order it gets what is sent to it, and how it ends."""

from __future__ import annotations

import asyncio
import enum
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

from falcon import WebSocketDisconnected

from ..close_codes import (
    NO_STATUS_RECEIVED,
    NORMAL_CLOSURE,
    SLOW_READER,
    check_close_code,
    shorten_close_reason,
)
from ..errors import OutboxFull
from ..history import History, Position
from ..limits import Limits
from ..publication import Publication
from .inbox import AnyInbox, Inbox, Receive
from .outbox import AnyOutbox, Event, Outbox, Send
from .transaction import Held

logger = logging.getLogger(__name__)

AcceptHandshake = Callable[[str | None, Iterable[tuple[str, str]]], Awaitable[None]]


class State(enum.Enum):
    """Where a connection is in its life."""

    CONNECTING = enum.auto()
    """``on_connect`` has not accepted yet: what is sent is held back."""
    OPEN = enum.auto()
    CLOSED = enum.auto()
    """Nothing can be sent any more; what the client said before may still be read."""


# PERF: an enumeration's member is looked up more slowly than a module's name.
CONNECTING, OPEN, CLOSED = State


class Connection:
    """One WebSocket client, from the handshake to the end; what handlers know as ``ws``.

    Everything that is sent to it, by its own handlers or by a room, leaves in the order in which it
    was sent. Where the server makes us wait, messages wait in an outbox with the bounds of
    :class:`~falcon_pachinko.limits.Limits`; a client that lets it overflow is closed with 4008.

    Attributes:
        id: A name for this connection that no other one has.
        user: Whose connection this is; set it in ``on_connect`` before joining rooms, because
            presence counts users.
        visible: Whether others may know of it: from the moment in which ``on_connect`` has accepted.
        history: What the rooms keep that it joins; its resource declares it.
        since: Where a client that has come back left off, one position for each room; empty for a new one.
        previous_id: The id of the connection that it had before.
        close_code: The code that we closed with, else the one that the server reported; ``None``
            before.

        accept_handshake: Falcon's own way to accept, so that Falcon knows; the route sets it.

    Args:
        receive: The server's ``receive``.
        send: The server's ``send``.
        push: What the server offers beside them (see :mod:`falcon_pachinko.uvicorn`).
        node_id: What its id begins with.
    """

    __slots__ = (
        "accept_handshake",
        "accept_options",
        "close_code",
        "finished",
        "handshake_answered",
        "held",
        "history",
        "id",
        "inbox",
        "outbox",
        "previous_id",
        "since",
        "state",
        "user",
        "visible",
    )

    def __init__(
        self,
        receive: Receive,
        send: Send,
        push: Mapping[str, Any] | None = None,
        node_id: str = "",
    ) -> None:
        self.id = node_id + secrets.token_hex(16)
        self.user: str | None = None
        self.history: History | None = None
        self.since: tuple[Position, ...] = ()
        self.previous_id = ""
        self.state = CONNECTING
        self.close_code: int | None = None
        self.held: Held | None = Held()
        self.visible = False
        self.finished = False
        self.accept_options: tuple[str | None, tuple[tuple[str, str], ...]] = (None, ())
        self.accept_handshake: AcceptHandshake | None = None
        self.handshake_answered = False
        self.inbox: AnyInbox
        self.outbox: AnyOutbox
        if push is None:
            self.inbox = Inbox(receive, self.mark_disconnected)
            self.outbox = Outbox(send, self.give_up)
        else:
            # NOTE: in this order, because a client that is gone already is told of at once.
            self.outbox = push["make_outbox"](send, self.give_up)
            self.inbox = push["make_inbox"](self.mark_disconnected)

    def __repr__(self) -> str:
        return f"<Connection {self.id} user={self.user!r} {self.state.name.lower()}>"

    @property
    def closed(self) -> bool:
        """Whether either side has closed the connection."""
        return self.state is CLOSED

    @property
    def backlog(self) -> tuple[int, int]:
        """How many messages wait to be accepted or for the client, and how many bytes they have."""
        if self.held is not None:
            return self.held.count, self.held.size_bytes
        return len(self.outbox.backlog.messages), self.outbox.backlog.size_bytes

    @property
    def limits(self) -> Limits:
        """The bounds in force."""
        return self.outbox.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self.inbox.limits = self.outbox.limits = limits

    # What handlers call.

    # PERF: these three return the coroutine of send() instead of awaiting it in one more.

    def send_media(self, media: object) -> Coroutine[Any, Any, None]:
        """Send a :class:`~falcon_pachinko.messages.Message` or anything that JSON can hold.

        It returns at once unless the server makes us wait; then it waits until everything that was
        sent so far has left, so that a handler cannot outrun its own client. In ``on_connect`` the
        message is held back until the handshake is accepted.

        Raises:
            falcon.WebSocketDisconnected: The connection is closed.
            OutboxFull: ``on_connect`` has sent more than may wait.
            TypeError: The message holds something that JSON cannot.
        """
        return self.send(Publication(media))

    def send_text(self, payload: str) -> Coroutine[Any, Any, None]:
        """Send a text as it is; otherwise like :meth:`send_media`."""
        return self.send(Publication.of_text(payload))

    def send_data(self, payload: bytes) -> Coroutine[Any, Any, None]:
        """Send a binary message; otherwise like :meth:`send_media`."""
        return self.send(Publication.of_bytes(bytes(payload)))

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
        if self.handshake_answered or self.state is not CONNECTING:
            raise RuntimeError("the handshake has been answered: call accept() in on_connect")
        self.accept_options = (subprotocol, tuple(headers))

    async def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close the connection; what was sent before still leaves first, within ``close_seconds``.

        Before the handshake is accepted this refuses it (HTTP 403). Closing twice does nothing.

        Args:
            code: 1000 by default.
            reason: A sentence for people, cut off at 123 bytes of UTF-8.

        Raises:
            ValueError: The code is not one that an endpoint may send.
        """
        code = check_close_code(NORMAL_CLOSURE if code is None else code)
        await self.close_with(close_event(code, reason or ""))

    # What the resource and the manager call.

    async def send(self, publication: Publication) -> None:
        """Send a message of this connection's own handlers: see :meth:`send_media`."""
        if self.state is OPEN:
            self.outbox.write(publication)
            if self.outbox.waiting:
                # NOTE: what the room says meanwhile waits too, so a client that takes one message after
                #   the other may never be done; only one that took nothing is given up.
                taken = self.outbox.backlog.taken
                in_time = await self.outbox.wait_drained(self.limits.stall_seconds)
                if not in_time and self.outbox.backlog.taken == taken:
                    self.abandon(SLOW_READER, f"took nothing for {self.limits.stall_seconds} s")
        elif self.held is not None:
            self.held.add(publication, self.held.own, self.limits)
        else:
            raise WebSocketDisconnected(self.close_code)

    def deliver(self, publication: Publication) -> None:
        """Send a message of a room or of another connection: never waits, never raises."""
        if self.state is OPEN:
            self.outbox.write(publication)
        elif self.held is not None:
            try:
                self.held.add(publication, self.held.heard, self.limits)
            except OutboxFull as error:
                self.give_up(error)

    async def open(self) -> Held | None:
        """Accept the handshake and send the own messages that were held back.

        Returns:
            What else was held back; ``None`` when the connection was closed meanwhile.
        """
        await self.answer_handshake()
        held = self.held
        if held is None:
            return None
        self.held = None
        self.state = OPEN
        self.visible = True
        for publication in held.own:
            self.outbox.write(publication)
        return held

    async def reject(self, code: int, reason: str) -> None:
        """Close so that the client sees why: an unanswered handshake is accepted first."""
        if not self.closed:
            await self.answer_handshake()
            await self.close(code, reason)

    def abandon(self, code: int, reason: str) -> None:
        """Close without waiting; what waits for the client is dropped."""
        if self.closed:
            return
        logger.info("%r is closed with %d: %s", self, code, reason)
        self.finish(code)
        self.outbox.clear()
        self.outbox.write(Publication.of_event(close_event(code, reason)))
        self.interrupt()

    async def end(self) -> None:
        """Let what was sent leave, within ``close_seconds``, then let go of the client."""
        self.inbox.close()
        try:
            await self.outbox.wait_drained(self.limits.close_seconds)
        finally:
            self.finish(self.close_code)
            self.outbox.stop()
            self.accept_handshake = None

    # What Falcon calls.

    async def forward(self, event: Event) -> None:
        """The ``send`` that Falcon gets: tells us how Falcon answers, and never closes twice."""
        kind = event["type"]
        if kind == "websocket.close":
            await self.close_with(event)
            return
        if self.closed:
            raise WebSocketDisconnected(self.close_code)
        if kind == "websocket.send":
            text = event.get("text")
            publication = (
                Publication.of_bytes(event["bytes"]) if text is None else Publication.of_text(text)
            )
        else:
            self.handshake_answered = True
            publication = Publication.of_event(event)
        self.outbox.write(publication)
        await self.outbox.wait_drained()

    # The steps of all these.

    async def answer_handshake(self) -> None:
        """Accept, unless a middleware has done so already."""
        if not self.handshake_answered:
            assert self.accept_handshake is not None
            await self.accept_handshake(*self.accept_options)

    def give_up(self, error: Exception) -> None:
        """End a connection whose client has not taken a message."""
        if isinstance(error, OutboxFull):
            self.abandon(SLOW_READER, "reads too slowly")
        else:
            self.mark_lost(error)

    def finish(self, close_code: int | None) -> None:
        """From now on nothing is sent but a close."""
        self.state = CLOSED
        self.close_code = close_code
        self.held = None
        self.outbox.close()

    async def close_with(self, event: Event) -> None:
        """Send a close event behind what waits, once."""
        if self.closed:
            return
        self.finish(event["code"])
        self.outbox.write(Publication.of_event(event))
        self.interrupt()
        await self.outbox.wait_drained(self.limits.close_seconds)

    def interrupt(self) -> None:
        """Wake the task that reads; a handler that waits for the client is let go after ``close_seconds``."""
        self.inbox.interrupt()
        if self.outbox.waiting:
            # NOTE: the handler may wait for a client that never reads again.
            loop = asyncio.get_running_loop()
            loop.call_later(self.limits.close_seconds, self.outbox.stop)

    def mark_lost(self, error: Exception) -> None:
        """The server cannot reach the client any more; it says so to who reads, within ``close_seconds``."""
        if self.closed:
            return
        logger.info("%r is lost: %r", self, error)
        self.finish(self.close_code)
        self.outbox.clear()
        # NOTE: uvicorn says nothing while something waits for a client that answers no ping.
        loop = asyncio.get_running_loop()
        loop.call_later(self.limits.close_seconds, self.inbox.interrupt)

    def mark_disconnected(self, event: Event) -> None:
        """Remember why the client is gone; a code that we closed with counts more."""
        self.finish(self.close_code or event.get("code") or NO_STATUS_RECEIVED)


def close_event(code: int, reason: str) -> Event:
    """The ASGI event that closes a connection."""
    return {"type": "websocket.close", "code": code, "reason": shorten_close_reason(reason)}

"""The bounds of one connection, and of all connections of a process."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one connection; a resource class may set its own as ``limits``.

    Attributes:
        on_connect_seconds: The timeout of ``on_connect``; then the connection is refused.
        on_disconnect_seconds: The timeout of ``on_disconnect``; then it is cancelled and logged.
        close_seconds: The time that a close waits for pending messages to a slow client, and that a handler
            may run on after its client has disconnected.
        stall_seconds: The time that a handler that sends to its own client waits for pending messages; if
            the client has read nothing meanwhile, it is closed with 4008.
        outbox_bytes: The maximum size of pending messages; above it the client is closed with 4008.
        outbox_messages: The maximum number of pending messages; above it likewise.
        max_message_bytes: The maximum size of an inbound message (a text in UTF-8); a larger one closes the
            connection with 1009. The server has a bound of its own, which applies if it is lower.
        messages_per_second: The sustained rate of inbound messages of a user, over all connections to this
            process through routes with the same rate, or of a connection without a user; ``math.inf`` for
            no bound. A message above the rate is answered with ``serverError`` and not handled.
        message_burst: The number of messages accepted at once. After as many messages above the rate a
            client is closed with 4029, if 10 of them were its own.
        frames_per_second: The sustained rate of received frames that are not whole messages: control frames
            and fragments; an address has 50 times the rate. Only :mod:`falcon_pachinko.uvicorn` sees them.
        frame_burst: The number of such frames accepted at once; above it the client is closed with 4029.
        message_fragments: The maximum number of fragments of a message; more close the connection with 1009.
        handler_seconds: The timeout of a handler, which is then cancelled, and its client is sent
            ``serverError``; ``None`` for no bound. Time that it waits for its own client has the bound
            ``stall_seconds``.
        heartbeat_seconds: The time without a message to a client after which it gets ``serverPosition``, so
            that it detects a dead connection. ``None`` is 20 s for a route with a history and no heartbeat
            for others; ``math.inf`` is no heartbeat.
        inbox_bytes: The maximum size of messages read ahead of a busy handler; then reading is paused.
        inbox_messages: The maximum number of messages read ahead; then likewise.
        rooms_per_connection: The maximum number of rooms of a connection that is in several rooms; further ones
            are refused with ``serverError``, code ``tooManyRooms``.
        once_seconds: For how long the reply to a request that is handled once is kept, and a handler without an
            outcome counts as running: more than the longest handler takes.

    Raises:
        ValueError: A bound is not a number above zero.
    """

    on_connect_seconds: float = 10.0
    on_disconnect_seconds: float = 10.0
    close_seconds: float = 5.0
    stall_seconds: float = 60.0
    outbox_bytes: int = 1024 * 1024
    outbox_messages: int = 1024
    max_message_bytes: int = 65_536
    messages_per_second: float = 100.0
    message_burst: int = 200
    frames_per_second: float = 100.0
    frame_burst: int = 2_000
    message_fragments: int = 1_024
    handler_seconds: float | None = 60.0
    heartbeat_seconds: float | None = None
    inbox_bytes: int = 256 * 1024
    inbox_messages: int = 64
    rooms_per_connection: int = 100
    once_seconds: float = 300.0

    def __post_init__(self) -> None:
        check_above_zero(self, optional={"handler_seconds", "heartbeat_seconds"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """The bounds of all connections of a process; the defaults are for a process with 1 GiB of memory.

    Attributes:
        connections: The maximum number of connections; further ones get HTTP 503.
        connections_per_address: The maximum number of connections of one client address, or of one IPv6
            network /64; further ones get HTTP 429. An office or a mobile carrier shares one address.
        connections_per_user: The maximum number of connections of one user, to all processes together;
            further ones are accepted and closed with 4429.
        handshakes_per_second: The sustained rate of WebSocket handshakes of one address; above it they get
            HTTP 429.
        handshake_burst: The number of handshakes of one address accepted at once.
        users_per_address: An address may send messages at this many times the rate of a user.
        buffer_bytes: The maximum size of all messages that wait for clients or for handlers. Above it the
            client with the largest outbox is closed with 4008, and nothing is read from the client with
            the largest inbox.
        head_bytes: The maximum size of a request's head; a larger one gets HTTP 431.
        head_lines: The maximum number of its header lines; more get HTTP 431.
        url_bytes: The maximum size of a URL; a longer one gets HTTP 414.
        body_bytes: The maximum size of a request's body; a larger one gets HTTP 413.
        head_seconds: The time for a request's head, from the accept of the socket or from its first byte on
            a connection that is kept alive; then the connection gets HTTP 408.
        keep_alive_seconds: The time that a connection without a request stays open.

    Raises:
        ValueError: A bound is not a number above zero.
    """

    connections: int = 10_000
    connections_per_address: int = 2_000
    connections_per_user: int = 20
    handshakes_per_second: float = 100.0
    handshake_burst: int = 1_000
    users_per_address: float = 50.0
    buffer_bytes: int = 256 * 1024 * 1024
    head_bytes: int = 32 * 1024
    head_lines: int = 100
    url_bytes: int = 8 * 1024
    body_bytes: int = 64 * 1024
    head_seconds: float = 10.0
    keep_alive_seconds: float = 20.0

    def __post_init__(self) -> None:
        check_above_zero(self)


def check_above_zero(limits: Any, optional: Collection[str] = ()) -> None:
    """Check the values of a dataclass of numbers, some of which may be ``None``.

    Raises:
        ValueError: A value is not a number above zero.
    """
    for field in fields(limits):
        value = getattr(limits, field.name)
        if value is None and field.name in optional:
            continue
        if not isinstance(value, (int, float)) or not value > 0:
            raise ValueError(f"{field.name} is {value!r}: it must be a number above zero")


DEFAULT_LIMITS = Limits()
DEFAULT_SERVER_LIMITS = ServerLimits()

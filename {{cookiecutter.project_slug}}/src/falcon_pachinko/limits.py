"""The bounds of one connection."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one connection; a resource class may set its own as ``limits``.

    Attributes:
        on_connect_seconds: The timeout of ``on_connect``; then the connection is refused.
        on_disconnect_seconds: The timeout of ``on_disconnect``; then it is cancelled and logged.
        close_seconds: The time that a close waits for pending messages to a slow client.
        stall_seconds: The time that a handler that sends to its own client waits for pending messages; if
            the client has read nothing meanwhile, it is closed with 4008.
        outbox_bytes: The maximum size of pending messages; above it the client is closed with 4008.
        outbox_messages: The maximum number of pending messages; above it likewise.
        max_message_bytes: The maximum size of an inbound message (a text in UTF-8); a larger one closes the
            connection with 1009. The server has a bound of its own, which applies if it is lower.
        messages_per_second: The sustained rate of inbound messages; ``math.inf`` for no bound. A message
            above the rate is answered with ``serverError`` and not handled.
        message_burst: The number of messages accepted at once. After as many messages above the rate the
            client is closed with 4029.
        inbox_bytes: The maximum size of messages read ahead of a busy handler; then reading is paused.
        inbox_messages: The maximum number of messages read ahead; then likewise.

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
    inbox_bytes: int = 256 * 1024
    inbox_messages: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"{field.name} is {value!r}: it must be a number above zero")


DEFAULT_LIMITS = Limits()

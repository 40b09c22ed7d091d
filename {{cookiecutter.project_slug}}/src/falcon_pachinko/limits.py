"""The bounds of one connection."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one connection; a resource class may set its own as ``limits``.

    Attributes:
        on_connect_seconds: How long ``on_connect`` may take; after that the connection is refused.
        on_disconnect_seconds: How long ``on_disconnect`` may take; after that it is cancelled and logged.
        close_seconds: How long a close waits for messages that are still on their way to a slow client.
        stall_seconds: How long a handler that sends to its own client waits until all that was sent
            has left; after that the client is closed with 4008.
        outbox_bytes: How much may wait for one client; beyond it the client is closed with 4008.
        outbox_messages: How many messages may wait for one client; beyond it the same.
        max_message_bytes: How large a message of the client may be (a text in UTF-8); a larger one
            closes the connection with 1009. The server has a bound of its own, which counts where it is lower.
        messages_per_second: How many messages a client may send in the long run; ``math.inf`` for any
            number. One above it is answered with ``serverError`` and not handled.
        message_burst: How many it may send at once. Who is that many in debt is closed with 4029.
        inbox_bytes: How much is read ahead of a busy handler; then the client has to wait.
        inbox_messages: How many messages are read ahead; beyond it the same.

    Raises:
        ValueError: A bound is no number above zero.
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

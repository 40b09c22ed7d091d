"""The bounds and delays of a client."""

from __future__ import annotations

from dataclasses import dataclass

from ..limits import check_above_zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The bounds and delays of a client; the defaults are those of ``realtime.js``.

    Attributes:
        base_delay_seconds: The longest delay before the first retry; it doubles with each failure.
        max_delay_seconds: The upper bound of the client's own delays; a server that stops may ask for another one.
        stable_after_seconds: A connection that lasts this long resets the delay.
        connect_timeout_seconds: The timeout of an attempt, with the call of ``token``.
        heartbeat_timeout_seconds: With a heartbeat: the longest time without a message. ``None`` is twice the
            announced interval and 5 s.
        probe_timeout_seconds: With a heartbeat: the time for an answer after the process was suspended.
        max_queued_messages: The number of messages to the server that wait for a connection.
        max_buffered_bytes: The size of messages that wait in an open connection; above it no message is accepted.
        max_received_messages: The number of received messages that wait for the iteration. At this bound
            the client stops reading, and requests fail.
        max_received_bytes: The same bound for their size, as characters of JSON.
        max_message_bytes: The largest message of the server; a larger one closes the client with 1009.

    Raises:
        ValueError: A value is not a number above zero.
    """

    base_delay_seconds: float = 0.5
    max_delay_seconds: float = 30.0
    stable_after_seconds: float = 5.0
    connect_timeout_seconds: float = 10.0
    heartbeat_timeout_seconds: float | None = None
    probe_timeout_seconds: float = 3.0
    max_queued_messages: int = 100
    max_buffered_bytes: int = 1024 * 1024
    max_received_messages: int = 1_000
    max_received_bytes: int = 16 * 1024 * 1024
    max_message_bytes: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        check_above_zero(self, optional={"heartbeat_timeout_seconds"})


DEFAULT_OPTIONS = Options()

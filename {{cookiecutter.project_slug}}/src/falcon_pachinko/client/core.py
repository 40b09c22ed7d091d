"""What the parts of the state machine share: its state, its timer, and the steps that they ask for."""

from __future__ import annotations

import abc
from collections.abc import Callable
from functools import partial
from typing import Any

from .options import Options
from .platform import Platform, Socket, Timer
from .policy import retry_delay
from .status import State, Status


class Core(abc.ABC):
    """The state of a client.

    Attributes:
        status: The status.
        on_status: Called with each new status.
        on_message_received: Called with each message that is neither a reply nor for the state machine only.
        on_request: Called with a request of the server and a function for its reply.
        full_streams: Queues of received messages that are full: while there are any, nothing is read.
        socket: The connection, or the attempt; ``None`` while there is none.
        opened_at: When the connection was opened; ``None`` while it is not open.
        failures: The number of failures since the last stable connection.
        attempt: The number of attempts and of their ends: the result of an earlier attempt's token is ignored.
        queue: Encoded messages for the next connection.
        message_size: The number of characters of the message that is being received.
    """

    def __init__(self, options: Options, platform: Platform) -> None:
        self.options = options
        self.platform = platform
        self.status = Status(State.CONNECTING)
        self.on_status: Callable[[Status], object] = lambda status: None
        self.on_message_received: Callable[[dict[str, Any]], object] = lambda message: None
        self.on_request: Callable[[dict[str, Any], Callable[[object], None]], object] = (
            lambda message, reply: None
        )
        self.full_streams: set[object] = set()
        self.socket: Socket | None = None
        self.timer: Timer | None = None
        self.opened_at: float | None = None
        self.failures = 0
        self.attempt = 0
        self.queue: list[str] = []
        self.message_size = 0

    @property
    def state(self) -> State:
        """The state."""
        return self.status.state

    @property
    @abc.abstractmethod
    def queued_messages(self) -> int:
        """The number of messages that wait for a connection, an answer to a probe, or an earlier reply."""

    @abc.abstractmethod
    def next_reference(self) -> str:
        """Return a reference that is unique for this client, whichever of its rooms sends it."""

    @abc.abstractmethod
    def open_socket(self, token: str | None) -> None:
        """Start a handshake."""

    @abc.abstractmethod
    def write(self, text: str) -> bool:
        """Send or queue a message; return whether it was accepted."""

    @abc.abstractmethod
    def requeue(self, text: str) -> None:
        """Queue a message that a lost connection has not written, before those that were sent after it."""

    @abc.abstractmethod
    def send_queues(self) -> None:
        """Send what has been queued, in all rooms."""

    @abc.abstractmethod
    def retry_now(self) -> None:
        """Retry at once; no effect in any state but ``WAITING``."""

    @abc.abstractmethod
    def lose(
        self, socket: Socket | None, code: int, reason: str, *, is_dropped: bool = False
    ) -> None:
        """Wait for the next attempt, or close for good after a terminal code."""

    @abc.abstractmethod
    def end(self, code: int, reason: str) -> None:
        """Close for good."""

    @abc.abstractmethod
    def fail_requests(self, code: str) -> None:
        """Fail all requests without a reply."""

    @abc.abstractmethod
    def on_open(self, socket: Socket) -> None:
        """The handshake is complete, or the room is joined."""

    @abc.abstractmethod
    def on_message(self, socket: Socket, data: object) -> None:
        """Receive a message."""

    @abc.abstractmethod
    def on_end(self, socket: Socket, code: int, reason: str, *, is_dropped: bool = False) -> None:
        """The connection has ended, or the room was left."""

    def send_queue(self, socket: Socket) -> None:
        """Send what has been queued."""
        if socket.is_open:
            queued, self.queue = self.queue, []
            for text in queued:
                socket.send(text, partial(self.requeue, text))

    def reset_if_stable(self) -> None:
        """Forget the failures before a connection that has lasted long enough."""
        opened_at, stable = self.opened_at, self.options.stable_after_seconds
        if opened_at is not None and self.platform.monotonic() - opened_at >= stable:
            self.failures = 0

    def retry_delay(self, failures: int) -> float:
        """Return a random delay in seconds after a number of failures."""
        base, bound = self.options.base_delay_seconds, self.options.max_delay_seconds
        return retry_delay(failures, base, bound, self.platform.random())

    def set_status(self, status: Status) -> None:
        """Set the status and report it."""
        self.status = status
        self.on_status(status)

    def start_timer(self, seconds: float, call: Callable[[], object]) -> None:
        """Start the only timer of the connection."""
        self.stop_timer()
        self.timer = self.platform.call_later(seconds, call)

    def stop_timer(self) -> None:
        """Stop the timer of the connection."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

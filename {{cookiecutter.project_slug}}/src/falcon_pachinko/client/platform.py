"""What the state machine of a client needs from its environment: clocks, timers, sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class Timer(Protocol):
    """A pending call."""

    def cancel(self) -> None:
        """Prevent the call; no effect after it."""
        ...


class Socket(Protocol):
    """A connection, or a room on one."""

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """The size of messages that are not written yet."""
        ...

    def send(self, text: str, unsent: Callable[[], object] | None = None) -> None:
        """Send a message, in order; one to a closing connection is lost.

        Args:
            text: The message.
            unsent: Called by :meth:`return_unsent`, if it is not written.
        """
        ...

    def return_unsent(self) -> None:
        """Take the messages back that are not written, and report them, the last one first."""
        ...

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection in the background; no effect on a closed one."""
        ...


class SocketEvents(Protocol):
    """The receiver of a socket's events. They never come within a call of the socket."""

    def on_open(self, socket: Socket) -> None:
        """The handshake is complete."""
        ...

    def on_message(self, socket: Socket, data: object) -> None:
        """A message has arrived."""
        ...

    def on_end(self, socket: Socket, code: int, reason: str, *, is_dropped: bool = False) -> None:
        """The connection has ended, or the attempt has failed: called once.

        Args:
            socket: The socket.
            code: The close code; 1006 without one; 3000 + the HTTP status of a refused handshake.
            reason: The close reason.
            is_dropped: For a room: its connection is lost.
        """
        ...


class Platform(Protocol):
    """The environment of a state machine. Its functions are called in one thread."""

    def monotonic(self) -> float:
        """Return the time of a clock that is never set, in seconds; it may stand still during a sleep."""
        ...

    def wall(self) -> float:
        """Return the time of day in seconds."""
        ...

    def random(self) -> float:
        """Return a random number from 0 to below 1."""
        ...

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call a function once after a time."""
        ...

    def call_soon(self, call: Callable[[], object]) -> object:
        """Call a function after the present call."""
        ...

    def connect(self, url: str, headers: Mapping[str, str], events: SocketEvents) -> Socket:
        """Open a connection in the background."""
        ...

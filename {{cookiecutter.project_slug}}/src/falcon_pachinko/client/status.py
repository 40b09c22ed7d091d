"""The status of a client's connection."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.Enum):
    """The states of a client's connection."""

    # An attempt is in progress.
    CONNECTING = "connecting"
    # Messages can be sent and received.
    OPEN = "open"
    # The connection is lost, and the next attempt follows.
    WAITING = "waiting"
    # The final state, after close() or a terminal close code.
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a client's connection.

    Attributes:
        state: The state.
        next_try_at: The time of the next attempt, as in ``time.monotonic()``; only while waiting.
        code: The close code, 3000 + the status of a refused handshake, or 1006 for a lost connection; only
            while waiting or closed.
        reason: The close reason, often empty.
    """

    state: State
    next_try_at: float | None = None
    code: int | None = None
    reason: str = ""

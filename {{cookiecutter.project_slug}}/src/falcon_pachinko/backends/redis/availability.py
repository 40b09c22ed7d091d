"""Whether Redis or Valkey is available: one state, its reason, and since when."""

from __future__ import annotations

import enum
import logging
import time

from ...errors import BackendUnavailable
from ...support.counters import Counters

logger = logging.getLogger(__name__)

# Exponential backoff with full jitter, so that nodes that lost Redis together do not reconnect together.
BACKOFF_BASE_SECONDS = 0.1


class State(enum.Enum):
    """The states of a backend's connection to Redis.

    ``CREATED -> CONNECTING -> AVAILABLE <-> UNAVAILABLE``, and from each of them to ``STOPPED``.
    """

    CREATED = "the backend has not been started: the server must run the lifespan"
    CONNECTING = "no response yet"
    AVAILABLE = ""
    UNAVAILABLE = "Redis is unavailable"
    STOPPED = "the backend has been stopped"


class Availability:
    """The state of a backend's connection to Redis. Each change is logged once.

    Attributes:
        state: The state.
        outage: The reason why Redis is unavailable; empty while it is available.
        since: The time of the last change of the state, in seconds on the process's monotonic clock.

    Args:
        counters: Adds up the durations of outages.
    """

    def __init__(self, counters: Counters | None = None) -> None:
        self.counters = counters or Counters()
        self.state = State.CREATED
        self.outage = State.CREATED.value
        self.since = time.monotonic()

    def _enter(self, state: State, reason: str = "") -> float:
        """Change the state; return how many seconds the last one has lasted."""
        now = time.monotonic()
        lasted_seconds = now - self.since
        if self.state is State.UNAVAILABLE:
            self.counters.unavailable_seconds += lasted_seconds
        self.state, self.outage, self.since = state, reason or state.value, now
        return lasted_seconds

    @property
    def unavailable_seconds(self) -> float:
        """The duration of all outages, the present one included."""
        present = time.monotonic() - self.since if self.state is State.UNAVAILABLE else 0.0
        return self.counters.unavailable_seconds + present

    def connect(self) -> None:
        """Wait for the first response."""
        self._enter(State.CONNECTING)

    def lose(self, reason: str) -> None:
        """Record an outage, or a new reason of the present one."""
        if self.state is State.STOPPED:
            return
        if self.state is State.UNAVAILABLE:
            self.outage = reason
            return
        was = self.state.name.lower()
        seconds = self._enter(State.UNAVAILABLE, reason)
        logger.error("Redis is unavailable: %s; retrying (%s for %.1f s)", reason, was, seconds)

    def recover(self) -> None:
        """Record that Redis is available."""
        if self.state is State.STOPPED:
            return
        was = self.state
        seconds = self._enter(State.AVAILABLE)
        if was is State.UNAVAILABLE:
            logger.warning("Redis is available again after %.1f s", seconds)
        elif was is not State.AVAILABLE:
            logger.info("Redis is available after %.1f s", seconds)

    def stop(self) -> None:
        """Record that the backend has been stopped."""
        was = self.state.name.lower()
        seconds = self._enter(State.STOPPED)
        logger.info("the connection to Redis has been stopped (%s for %.1f s)", was, seconds)

    def check(self) -> None:
        """Raise BackendUnavailable unless Redis is available."""
        if self.outage:
            raise BackendUnavailable(self.outage)


def max_delay_seconds(attempt: int, answer_seconds: float) -> float:
    """Return the maximum delay after a failed attempt to connect: no longer than an attempt itself may take."""
    return min(answer_seconds, BACKOFF_BASE_SECONDS * 2.0 ** min(attempt, 30))

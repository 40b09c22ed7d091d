"""The states of a connection."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """The state of a connection; it only moves forward."""

    CONNECTING = enum.auto()
    """``on_connect`` has not accepted yet: messages are buffered."""
    OPEN = enum.auto()
    CLOSING = enum.auto()
    """Nothing is sent any more except a close; messages that have arrived may still be handled."""
    CLOSED = enum.auto()
    """The server has been released."""


# PERF: a module's name is looked up faster than a member of an enumeration.
CONNECTING, OPEN, CLOSING, CLOSED = State

"""The state of a room in memory, and the handle of an operation that has ended."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from typing import cast

from .buffer import HistoryBuffer
from .roster import PresenceChanges, Roster


class Done(tuple[()]):
    """An awaitable without a result that has finished.

    PERF: the empty iterator of the tuple ends at once, without a call of a Python function.
    """

    __slots__ = ()
    __await__ = tuple.__iter__


DONE = cast(Awaitable[None], Done())


class MemoryRoom:
    """The state of a room.

    Attributes:
        sweep_at: The time of the next sweep over its history; ``None`` while that is empty.
    """

    __slots__ = ("buffer", "changes", "epoch", "offset", "roster", "subscriptions", "sweep_at")

    def __init__(self) -> None:
        self.subscriptions = 0
        self.roster = Roster()
        self.changes: PresenceChanges | None = None
        self.buffer: HistoryBuffer | None = None
        self.epoch = secrets.token_hex(8)
        self.offset = 0
        self.sweep_at: float | None = None

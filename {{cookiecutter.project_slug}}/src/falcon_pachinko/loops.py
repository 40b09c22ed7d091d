"""What belongs to an event loop rather than to a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object for the event loop in use; a process has one loop after the other, not many at once.

    Args:
        make: Makes the object of a loop.
    """

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self.make = make
        self.loop: asyncio.AbstractEventLoop | None = None
        self.value: T

    def of(self, loop: asyncio.AbstractEventLoop) -> T:
        """The object of this loop."""
        if self.loop is not loop:
            self.value, self.loop = self.make(loop), loop
        return self.value

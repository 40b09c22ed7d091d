"""What belongs to an event loop rather than to a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object for each event loop, as long as that is not closed.

    Args:
        make: Makes the object of a loop.
    """

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self.make = make
        self.values: dict[asyncio.AbstractEventLoop, T] = {}

    def of(self, loop: asyncio.AbstractEventLoop) -> T:
        """The object of this loop."""
        if loop not in self.values:
            for closed in [known for known in self.values if known.is_closed()]:
                del self.values[closed]
            self.values[loop] = self.make(loop)
        return self.values[loop]

"""Objects that belong to an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object for each open event loop.

    Args:
        make: Creates the object of a loop.
    """

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self.make = make
        self.values: dict[asyncio.AbstractEventLoop, T] = {}

    def of(self, loop: asyncio.AbstractEventLoop) -> T:
        """Return the object of a loop, created on first use."""
        if loop not in self.values:
            for closed in [known for known in self.values if known.is_closed()]:
                del self.values[closed]
            self.values[loop] = self.make(loop)
        return self.values[loop]

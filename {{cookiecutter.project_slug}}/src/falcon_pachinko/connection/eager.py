"""Run an awaitable without a task until it suspends.

Most calls of an ASGI server's ``send`` finish without suspending, because the kernel takes the bytes at
once. A task per call costs more than the call itself, so the first step runs in place, and only an
awaitable that suspends continues in a task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Iterator
from types import CoroutineType
from typing import Any


class Suspended:
    """An awaitable that has started and suspended; awaiting this object continues it in any task."""

    __slots__ = ("steps", "waits_for")

    def __init__(self, steps: Iterator[Any], waits_for: Any) -> None:
        self.steps = steps
        self.waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            while True:
                try:
                    yield self.waits_for
                except BaseException as error:
                    # NOTE: __await__ returns an iterator (PEP 492), which may lack throw() where a
                    #   server is written in another language.
                    throw = getattr(self.steps, "throw", None)
                    if throw is None:
                        raise
                    self.waits_for = throw(error)
                else:
                    self.waits_for = next(self.steps)
        except StopIteration:
            return


def run_eagerly(awaitable: Awaitable[Any]) -> Suspended | None:
    """Run the first step; return ``None`` if the awaitable has finished. Its exceptions are raised here."""
    try:
        if isinstance(awaitable, CoroutineType):
            # PERF: no iterator object for a coroutine that finishes at once.
            waits_for = awaitable.send(None)
            steps = awaitable.__await__()
        else:
            steps = awaitable.__await__()
            waits_for = next(steps)
    except StopIteration:
        return None
    return Suspended(steps, waits_for)

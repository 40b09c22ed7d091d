"""Run an awaitable without a task for as long as it does not wait.

Most sends of an ASGI server end without waiting: the kernel takes the bytes. A task for each of them
costs more than the send itself, so the first step is made in place and only an awaitable that really
waits goes on in a task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Iterator
from types import CoroutineType
from typing import Any


class Suspended:
    """An awaitable that has begun and waits; awaiting this lets it go on, in whatever task awaits it."""

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
                    # NOTE: __await__ promises an iterator only (PEP 492); a server written in
                    #   another language may have one that nothing can be thrown into.
                    throw = getattr(self.steps, "throw", None)
                    if throw is None:
                        raise
                    self.waits_for = throw(error)
                else:
                    self.waits_for = next(self.steps)
        except StopIteration:
            return


def begin(awaitable: Awaitable[Any]) -> Suspended | None:
    """Make the first step; ``None`` when that was all. What the step raises is raised here."""
    try:
        if isinstance(awaitable, CoroutineType):
            # PERF: without the iterator, which nobody needs when that was all.
            waits_for = awaitable.send(None)
            steps = awaitable.__await__()
        else:
            steps = awaitable.__await__()
            waits_for = next(steps)
    except StopIteration:
        return None
    return Suspended(steps, waits_for)

"""Run an awaitable without a task for as long as it does not wait.

Most sends of an ASGI server end without waiting: the kernel takes the bytes. A task for each of them
costs more than the send itself, so the first step is made in place and only an awaitable that really
waits goes on in a task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any


class Suspended:
    """An awaitable that has begun and waits; awaiting this lets it go on, in whatever task awaits it."""

    __slots__ = ("steps", "waits_for")

    def __init__(self, steps: Generator[Any, Any, Any], waits_for: Any) -> None:
        self.steps = steps
        self.waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            while True:
                try:
                    value = yield self.waits_for
                except BaseException as error:
                    self.waits_for = self.steps.throw(error)
                else:
                    self.waits_for = self.steps.send(value)
        except StopIteration:
            return


def begin(awaitable: Awaitable[Any]) -> Suspended | None:
    """Make the first step; ``None`` when that was all. What the step raises is raised here."""
    steps = awaitable.__await__()
    try:
        waits_for = next(steps)
    except StopIteration:
        return None
    return Suspended(steps, waits_for)

"""Bounded waits for the end of a task."""

from __future__ import annotations

import asyncio
from typing import Any

from ..connection.handler_task import SWEEPS


async def wait_ended(task: asyncio.Task[Any], timeout_seconds: float) -> str | None:
    """Wait until a task has ended, with any result; cancel it at the bound.

    Returns:
        ``None`` if the task ended, otherwise its position, for an error text.
    """
    try:
        await asyncio.wait({task}, timeout=timeout_seconds)
        position = None if task.done() else position_of(task)
    finally:
        task.cancel()
    if position is None:
        return None
    await asyncio.wait({task}, timeout=timeout_seconds)
    outcome = "was cancelled" if task.done() else "ignores its cancellation"
    return f"it was {position} and {outcome}"


def position_of(task: asyncio.Task[Any]) -> str:
    """Return the innermost line of a task outside asyncio, also in tasks that it awaits."""
    position = "at an unknown position"
    waiter: Any = task
    seen: set[Any] = set()  # two tasks may wait for each other
    while isinstance(waiter, asyncio.Task) and waiter not in seen:
        seen.add(waiter)
        awaited: Any = waiter.get_coro()
        while (frame := getattr(awaited, "cr_frame", None)) is not None:
            if not frame.f_globals.get("__name__", "").startswith("asyncio"):
                code = frame.f_code
                position = f"in {code.co_qualname} ({code.co_filename}:{frame.f_lineno})"
            awaited = awaited.cr_await
        # NOTE: only this private attribute of asyncio gives the task that a task awaits.
        waiter = getattr(waiter, "_fut_waiter", None)
        for handlers in SWEEPS.of(task.get_loop()).tasks:
            if handlers.ended is waiter:
                waiter = handlers.task
    return position

"""Waiting for tasks to end, with a bound."""

from __future__ import annotations

import asyncio
from typing import Any


async def wait_ended(task: asyncio.Task[Any], timeout_seconds: float) -> str | None:
    """Wait until a task has ended, whatever its result; cancel it where it does not in time.

    Returns:
        ``None`` when it has ended by itself, else a clause that says where it was.
    """
    try:
        await asyncio.wait({task}, timeout=timeout_seconds)
        place = None if task.done() else place_of(task)
    finally:
        task.cancel()
    if place is None:
        return None
    await asyncio.wait({task}, timeout=timeout_seconds)
    outcome = "was cancelled" if task.done() else "goes on although it was cancelled"
    return f"it was {place} and {outcome}"


def place_of(task: asyncio.Task[Any]) -> str:
    """Where a task waits: the innermost line that is not asyncio's own, also in a task that it awaits."""
    place = "nowhere"
    waiter: Any = task
    seen: set[Any] = set()  # two tasks may wait for each other
    while isinstance(waiter, asyncio.Task) and waiter not in seen:
        seen.add(waiter)
        awaited: Any = waiter.get_coro()
        while (frame := getattr(awaited, "cr_frame", None)) is not None:
            if not frame.f_globals.get("__name__", "").startswith("asyncio"):
                code = frame.f_code
                place = f"in {code.co_qualname} ({code.co_filename}:{frame.f_lineno})"
            awaited = awaited.cr_await
        # NOTE: what a coroutine awaits does not tell its task; only this attribute of asyncio's does.
        waiter = getattr(waiter, "_fut_waiter", None)
    return place

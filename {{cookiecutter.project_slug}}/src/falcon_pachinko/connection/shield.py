"""Run something to its end, whatever happens meanwhile, but not for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)

# NOTE: an event loop keeps no task alive by itself.
stragglers: set[asyncio.Task[None]] = set()


async def run_to_end(coroutine: Coroutine[Any, Any, None], seconds: float) -> None:
    """Run a coroutine in a task of its own, then pass on a cancellation that came meanwhile.

    Raises:
        TimeoutError: It took longer; it has been cancelled, and is not waited for.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    task = loop.create_task(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done() and (left := deadline - loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
    failure: BaseException | None
    if not task.done():
        task.cancel()
        stragglers.add(task)
        task.add_done_callback(forget_straggler)
        failure = TimeoutError()
    elif task.cancelled():
        failure = RuntimeError("it cancelled itself")
    else:
        failure = task.exception()
    if cancelled is not None:
        if failure is not None:
            logger.error("failed while the server was stopping", exc_info=failure)
        raise cancelled
    if failure is not None:
        raise failure


def forget_straggler(task: asyncio.Task[None]) -> None:
    """See the end of a task that has been given up."""
    stragglers.discard(task)
    if not task.cancelled() and (failure := task.exception()) is not None:
        logger.error("failed after its time", exc_info=failure)

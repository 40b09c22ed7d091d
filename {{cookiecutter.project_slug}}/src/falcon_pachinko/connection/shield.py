"""Run a coroutine to its end despite cancellation of the caller, with a timeout."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)

# NOTE: an event loop keeps only weak references to tasks.
timed_out_tasks: set[asyncio.Task[None]] = set()


async def run_shielded(
    coroutine: Coroutine[Any, Any, None],
    seconds: float,
    name: str,
    context: contextvars.Context | None = None,
) -> None:
    """Run a coroutine in its own task; re-raise a cancellation of the caller after its end.

    Args:
        coroutine: The coroutine.
        seconds: The timeout.
        name: The subject of log lines.
        context: The context of the task; by default a copy of the caller's.

    Raises:
        TimeoutError: The coroutine took longer. It has been cancelled and is not awaited.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    task = loop.create_task(coroutine, context=context)
    cancelled: asyncio.CancelledError | None = None
    while not task.done() and (left := deadline - loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
    failure: BaseException | None
    if not task.done():
        abandon(task, name)
        failure = TimeoutError()
    elif task.cancelled():
        failure = RuntimeError(f"{name} cancelled itself")
    else:
        failure = task.exception()
        if failure is not None and not isinstance(failure, (Exception, KeyboardInterrupt)):
            # NOTE: some servers end with an exception that is not an Exception.
            failure, cause = RuntimeError(f"{name} raised {failure!r}"), failure
            failure.__cause__ = cause
    if cancelled is not None:
        if failure is not None:
            logger.error("%s failed during the server's shutdown", name, exc_info=failure)
        raise cancelled
    if failure is not None:
        raise failure


def abandon(task: asyncio.Task[None], name: str) -> None:
    """Cancel a task without waiting for it, and log its exception."""

    def on_done(task: asyncio.Task[None]) -> None:
        timed_out_tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.error("%s failed after its timeout", name, exc_info=failure)

    task.cancel()
    timed_out_tasks.add(task)
    task.add_done_callback(on_done)

"""Background workers that live as long as the application."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from .errors import RegistrationError

logger = logging.getLogger(__name__)

Worker = Callable[..., Coroutine[Any, Any, None]]


def stop_server() -> None:
    """Ask the server of this process to stop in order, as an operator would."""
    os.kill(os.getpid(), signal.SIGTERM)


class WorkerController:
    """Starts workers, watches them, and stops them.

    A worker is a coroutine function. It usually runs until it is cancelled; one that returns is done. One
    that raises is logged with its traceback at once, and the server is stopped: a process whose worker is
    dead looks healthy and is not.

    Args:
        on_death: What happens after a death has been logged, instead of stopping the server.
        stop_seconds: How long ``stop`` waits for workers that are slow to end.
    """

    def __init__(
        self, *, on_death: Callable[[], None] = stop_server, stop_seconds: float = 10.0
    ) -> None:
        self.on_death = on_death
        self.stop_seconds = stop_seconds
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = False

    async def start(self, *workers: Worker, **context: Any) -> None:
        """Start workers; each is called with the whole context as keyword arguments.

        Raises:
            RegistrationError: A worker is no coroutine function or does not take this context; then none
                of them has been started.
        """
        names = [getattr(worker, "__qualname__", repr(worker)) for worker in workers]
        for worker, name in zip(workers, names, strict=True):
            if not inspect.iscoroutinefunction(worker):
                raise RegistrationError(
                    f"worker {worker!r} is no coroutine function: pass the 'async def' itself, uncalled"
                )
            try:
                inspect.signature(worker).bind(**context)
            except TypeError as error:
                raise RegistrationError(
                    f"worker {name} does not take this context: {error}"
                ) from error
        for worker, name in zip(workers, names, strict=True):
            task = asyncio.create_task(worker(**context), name=f"worker {name}")
            self.tasks.add(task)
            task.add_done_callback(self.on_done)

    async def stop(self) -> None:
        """Cancel all workers and wait for their end, ``stop_seconds`` at most."""
        if not self.tasks:
            return
        self.stopping = True
        tasks = set(self.tasks)
        for task in tasks:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=self.stop_seconds)
        self.stopping = False
        for task in pending:
            logger.error(
                "%s did not end within %s s of being cancelled", task.get_name(), self.stop_seconds
            )

    def on_done(self, task: asyncio.Task[None]) -> None:
        """See an end at once: asyncio calls this when a worker's task is done."""
        self.tasks.discard(task)
        error: BaseException | None
        if not task.cancelled():
            error = task.exception()
        elif task.cancelling():
            return  # by stop(), or by whoever ends the event loop
        else:
            error = asyncio.CancelledError("it came out of the worker, though nobody cancelled it")
        if error is None:
            logger.info("%s is done", task.get_name())
            return
        logger.critical("%s died", task.get_name(), exc_info=error)
        if not self.stopping:
            self.on_death()

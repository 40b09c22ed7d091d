"""Background workers that live as long as the application."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import os
import random
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from typing import Any

from .errors import RegistrationError

logger = logging.getLogger(__name__)

Worker = Callable[..., Coroutine[Any, Any, None]]

# NOTE: an event loop keeps no task alive by itself.
endings: set[asyncio.Task[Any]] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a dead worker waits before it is started again: exponential backoff with full jitter.

    The delay is random, from 0 to a ceiling that doubles with each death, so that workers which died
    together do not come back together (AWS Architecture Blog, "Exponential Backoff And Jitter").

    Attributes:
        base_seconds: The first ceiling.
        cap_seconds: The highest ceiling.
        reset_seconds: A worker that has run this long begins with the first ceiling again.

    Raises:
        ValueError: A time is not above zero or not finite, or the cap is below the base.
    """

    base_seconds: float = 1.0
    cap_seconds: float = 30.0
    reset_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_seconds(field.name, getattr(self, field.name))
        if self.cap_seconds < self.base_seconds:
            raise ValueError(
                f"cap_seconds is {self.cap_seconds!r}: it must not be below base_seconds,"
                f" which is {self.base_seconds!r}"
            )

    def delay_seconds(self, attempt: int) -> float:
        """A delay before the next start, where ``attempt`` is 0 for the first one."""
        # NOTE: no float goes beyond 2**1023; the product may, and is infinite then.
        doubled = self.base_seconds * 2.0 ** min(attempt, 1023)
        return random.uniform(0.0, min(self.cap_seconds, doubled))


def stop_server() -> None:
    """Stop the server of this process in order; the process ends with status 1.

    A server that is still starting stops once it has started. Where nothing handles SIGTERM, as in the
    processes that hypercorn starts, the event loop ends at once: ``asyncio.run`` cancels all that runs.

    Raises:
        SystemExit: Nothing handles SIGTERM.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if handler in (signal.SIG_DFL, signal.SIG_IGN):
        raise SystemExit(1)
    fail_at_the_end(asyncio.Event().wait())
    server: Any = getattr(handler, "__self__", None)
    if hasattr(server, "should_exit"):
        # NOTE: at its end uvicorn dies of a SIGTERM that it got. systemd takes that for an orderly stop, and
        #   process 1 of a container survives it and ends with status 0.
        server.should_exit = True
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def fail_at_the_end(waits_for: Coroutine[Any, Any, Any]) -> None:
    """End the process with status 1, unless this is over before the event loop ends.

    The server has done its part when ``asyncio.run`` cancels what is left, and with it this.
    """
    ending = asyncio.create_task(waits_for, name="end of the process")
    endings.add(ending)
    ending.add_done_callback(on_ending)


def on_ending(ending: asyncio.Task[Any]) -> None:
    """Raise here, in a callback: asyncio would report a task that fails."""
    endings.discard(ending)
    if ending.cancelled():
        raise SystemExit(1)


def check_seconds(name: str, value: float) -> None:
    """Refuse what is no time to wait."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}: it must be above zero and finite")


class WorkerController:
    """Starts workers, watches them, and stops them.

    A worker is a coroutine function. It usually runs until it is cancelled; one that returns is done. One
    that raises is logged with its traceback at once, and the server is stopped: a process whose worker is
    dead looks healthy and is not.

    Args:
        on_death: What happens after a death has been logged, instead of stopping the server.
        stop_seconds: How long ``stop`` waits for workers that are slow to end.
        restart: Start a dead worker again after a delay, without end, and do not call ``on_death``.

    Raises:
        ValueError: ``stop_seconds`` is not above zero or not finite.
        RegistrationError: ``restart`` is no :class:`Backoff`.
    """

    def __init__(
        self,
        *,
        on_death: Callable[[], None] = stop_server,
        stop_seconds: float = 10.0,
        restart: Backoff | None = None,
    ) -> None:
        check_seconds("stop_seconds", stop_seconds)
        if not (restart is None or isinstance(restart, Backoff)):
            raise RegistrationError(f"restart is {restart!r}: give a Backoff, such as Backoff()")
        self.on_death = on_death
        self.stop_seconds = stop_seconds
        self.restart = restart
        self.tasks: set[asyncio.Task[None]] = set()

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
            task = asyncio.create_task(self.watch(name, worker, context), name=f"worker {name}")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def stop(self) -> None:
        """Cancel all workers and wait for their end, ``stop_seconds`` at most.

        One that has not ended by then is logged; where it goes on until the event loop ends, the process
        ends without it, with status 1.
        """
        if not self.tasks:
            return
        tasks = set(self.tasks)
        for task in tasks:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=self.stop_seconds)
        for task in pending:
            logger.error(
                "%s did not end within %s s of being cancelled", task.get_name(), self.stop_seconds
            )
        if pending:
            # NOTE: asyncio.run would wait for them without a bound.
            fail_at_the_end(asyncio.wait(pending))

    async def watch(self, name: str, worker: Worker, context: dict[str, Any]) -> None:
        """The life of one worker, from death to death where it is started again."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        attempt = 0
        while True:
            begun = loop.time()
            try:
                await worker(**context)
            except (GeneratorExit, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                # NOTE: a CancelledError that nobody asked for is a death too.
                if task.cancelling():
                    if isinstance(error, asyncio.CancelledError):
                        raise
                    logger.exception("worker %s died while it was being stopped", name)
                    return
                if self.restart is None:
                    logger.critical("worker %s died", name, exc_info=True)
                    loop.call_soon(self.on_death)
                    return
                if loop.time() - begun >= self.restart.reset_seconds:
                    attempt = 0
                delay = self.restart.delay_seconds(attempt)
                attempt += 1
                logger.exception("worker %s died and starts again in %.3f s", name, delay)
            else:
                logger.info("worker %s is done", name)
                return
            await asyncio.sleep(delay)

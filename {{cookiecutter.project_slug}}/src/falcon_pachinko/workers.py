"""TaskSet workers that live as long as the application."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import os
import random
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from typing import Any, Protocol

from .backends.base import LEASE, Backend, Lease
from .errors import BackendUnavailable, LeaseLost, RegistrationError

logger = logging.getLogger(__name__)

Worker = Callable[..., Coroutine[Any, Any, None]]

# How often a process asks whether a worker that another one runs is free, if its lease does not end before.
MAX_PAUSE_SECONDS = 5.0
MIN_PAUSE_SECONDS = 0.02

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


class HasBackend(Protocol):
    """The part of a manager that is needed here."""

    backend: Backend


def lease_of(worker: Worker) -> str:
    """What the lease of a worker is called: in all processes alike, and unlike that of any other one."""
    function: Any = worker
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", "")
    return f"{module}.{getattr(function, '__qualname__', repr(function))}"


async def run_with(lease: Lease, backend: Backend, worker: Worker, context: dict[str, Any]) -> bool:
    """Run a worker as long as its lease is held; whether it has returned."""
    LEASE.set(lease)
    running = asyncio.create_task(worker(**context))
    holding = asyncio.create_task(hold(lease, backend))
    try:
        await asyncio.wait({running, holding}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            return False
        try:
            await running
        except LeaseLost:
            return False
        return True
    finally:
        holding.cancel()
        running.cancel()
        await asyncio.gather(running, holding, return_exceptions=True)


async def hold(lease: Lease, backend: Backend) -> None:
    """Renew a lease again and again; return when it is lost, or may be."""
    loop = asyncio.get_running_loop()
    while True:
        now = loop.time()
        pause_seconds = min(backend.timing.expiry_seconds / 3, lease.expires - now)
        if pause_seconds <= 0:
            return
        await asyncio.sleep(pause_seconds)
        if lease.expires <= loop.time():
            return
        try:
            if not await backend.renew(lease):
                return
        except BackendUnavailable as error:
            logger.info("the lease of %s is renewed later: %s", lease.name, error)


class WorkerController:
    """Starts workers, watches them, and stops them.

    A worker is a coroutine function. It usually runs until it is cancelled; one that returns is done. One
    that raises is logged with its traceback at once, and the server is stopped: a process whose worker is
    dead looks healthy and is not.

    Args:
        on_death: What happens after a death has been logged, instead of stopping the server.
        stop_seconds: How long ``stop`` waits for workers that are slow to end.
        restart: Start a dead worker again after a delay, without end, and do not call ``on_death``.
        manager: The application's manager; workers that run once per cluster need it.

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
        manager: HasBackend | None = None,
    ) -> None:
        check_seconds("stop_seconds", stop_seconds)
        if not (restart is None or isinstance(restart, Backoff)):
            raise RegistrationError(f"restart is {restart!r}: give a Backoff, such as Backoff()")
        self.on_death = on_death
        self.stop_seconds = stop_seconds
        self.restart = restart
        self.manager = manager
        self.tasks: set[asyncio.Task[None]] = set()
        self.alone: list[str] = []

    async def start(self, *workers: Worker, once_per_cluster: bool = False, **context: Any) -> None:
        """Start workers; each is called with the whole context as keyword arguments.

        Args:
            workers: Coroutine functions.
            once_per_cluster: Of all processes that share a backend, one runs each of them. Where that process
                dies, another one takes over within the backend's ``expiry_seconds``. A worker that is
                replaced, because its process stood still or the engine was away for as long, is cancelled,
                and what it still says to rooms is refused with ``LeaseLost``. One that returns is not run
                again as long as its process lives.
            context: What the workers are called with.

        Raises:
            RegistrationError: A worker is no coroutine function or does not take this context, is to run
                once per cluster twice, or there is no manager; then none of them has been started.
        """
        if once_per_cluster and self.manager is None:
            raise RegistrationError(
                "once_per_cluster needs the manager: write"
                " WorkerController(manager=app.ws_connection_manager)"
            )
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
        if once_per_cluster:
            leases = [lease_of(worker) for worker in workers]
            known = [*self.alone, *leases]
            twice = [lease for lease in leases if known.count(lease) > 1]
            if twice:
                raise RegistrationError(
                    f"worker {twice[0]} is started twice: once per cluster it has one lease, so only one"
                    " of them would run; write a function for each"
                )
            self.alone += leases
        for worker, name in zip(workers, names, strict=True):
            if once_per_cluster:
                worker = functools.partial(self.run_alone, name, worker)
            task = asyncio.create_task(self.watch(name, worker, context), name=f"worker {name}")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def run_alone(self, name: str, worker: Worker, **context: Any) -> None:
        """Run a worker whenever no other process does, until it returns or raises."""
        assert self.manager is not None
        backend = self.manager.backend
        pause_seconds = min(MAX_PAUSE_SECONDS, backend.timing.heartbeat_seconds)
        done = False
        while True:
            try:
                lease = await backend.acquire(lease_of(worker))
            except BackendUnavailable as error:
                logger.info("worker %s waits for the engine: %s", name, error)
                await asyncio.sleep(pause_seconds)
                continue
            if not isinstance(lease, Lease):
                await asyncio.sleep(min(max(lease, MIN_PAUSE_SECONDS), pause_seconds))
                continue
            try:
                done = done or await run_with(lease, backend, worker, context)
                if done:
                    # NOTE: as long as this process holds the lease, no other one does the work again.
                    await hold(lease, backend)
            finally:
                await backend.release(lease)
            logger.warning("worker %s has lost its lease: another process may run it", name)

    async def stop(self) -> None:
        """Cancel all workers and wait for their end, ``stop_seconds`` at most.

        One that has not ended by then is logged; where it goes on until the event loop ends, the process
        ends without it, with status 1.
        """
        self.alone.clear()
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

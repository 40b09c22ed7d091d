"""Background workers that run as long as the application."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from typing import Any, Protocol

from .backends.base import CURRENT_LEASE, Backend, Lease
from .errors import BackendUnavailable, ConfigurationError, LeaseLost, RegistrationError
from .support.exit_status import fail_on_exit, stop_server

logger = logging.getLogger(__name__)

Worker = Callable[..., Coroutine[Any, Any, None]]

# The bounds of the pause between two attempts to acquire the lease of a worker.
MAX_PAUSE_SECONDS = 5.0
MIN_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The delay before a failed worker restarts: exponential backoff with full jitter.

    The delay is random, between 0 and a ceiling that doubles with each failure, so that workers that failed
    together do not restart together (AWS Architecture Blog, "Exponential Backoff And Jitter").

    Attributes:
        base_seconds: The first ceiling.
        cap_seconds: The highest ceiling.
        reset_seconds: A worker that has run for this time starts again with the first ceiling.

    Raises:
        ConfigurationError: A time is not above zero or not finite, or the cap is below the base.
    """

    base_seconds: float = 1.0
    cap_seconds: float = 30.0
    reset_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_seconds(field.name, getattr(self, field.name))
        if self.cap_seconds < self.base_seconds:
            raise ConfigurationError(
                f"cap_seconds is {self.cap_seconds!r}: it must not be below base_seconds,"
                f" which is {self.base_seconds!r}"
            )

    def delay_seconds(self, attempt: int) -> float:
        """Return a random delay; ``attempt`` is 0 for the first restart."""
        # NOTE: 2.0**1024 raises OverflowError; the product may be infinite.
        doubled = self.base_seconds * 2.0 ** min(attempt, 1023)
        return random.uniform(0.0, min(self.cap_seconds, doubled))


def check_seconds(name: str, value: float) -> None:
    """Raise ConfigurationError unless a duration is positive and finite."""
    if not 0 < value < math.inf:
        raise ConfigurationError(f"{name} is {value!r}: it must be above zero and finite")


class HasBackend(Protocol):
    """The part of a manager that workers use."""

    backend: Backend


def lease_name(worker: Worker) -> str:
    """Return the name of a worker's lease, the same in all processes."""
    function: Any = worker
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", "")
    return f"{module}.{getattr(function, '__qualname__', repr(function))}"


async def run_with_lease(
    lease: Lease, backend: Backend, worker: Worker, context: dict[str, Any]
) -> bool:
    """Run a worker while its lease is held; return whether it has returned."""
    CURRENT_LEASE.set(lease)
    running = asyncio.create_task(contain_exit(worker, context))
    renewing = asyncio.create_task(keep_renewing(lease, backend))
    try:
        await asyncio.wait({running, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            return False
        try:
            await running
        except LeaseLost:
            return False
        return True
    finally:
        renewing.cancel()
        running.cancel()
        await asyncio.gather(running, renewing, return_exceptions=True)


async def contain_exit(worker: Worker, context: dict[str, Any]) -> None:
    """Run a worker; SystemExit out of a task would stop the event loop."""
    try:
        await worker(**context)
    except SystemExit as error:
        raise RuntimeError("the worker raised SystemExit") from error


async def keep_renewing(lease: Lease, backend: Backend) -> None:
    """Renew a lease until it is lost or has expired."""
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
            logger.info("worker %s: lease not renewed: %s; retrying", lease.name, error)


class WorkerController:
    """Starts, supervises and stops workers.

    A worker is a coroutine function. It usually runs until it is cancelled, but may return. If it raises,
    the traceback is logged and the server stops: a process without its worker only looks healthy.

    Args:
        on_death: Called after the failure of a worker instead of stopping the server.
        stop_seconds: How long ``stop`` waits for workers to end.
        restart: Restart a failed worker after a delay, any number of times, without calling ``on_death``.
        manager: The application's manager; required by workers that run once per cluster.

    Raises:
        ConfigurationError: ``stop_seconds`` is not above zero or not finite.
        RegistrationError: ``restart`` is not a :class:`Backoff`.
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
        self.leases: list[str] = []

    async def start(self, *workers: Worker, once_per_cluster: bool = False, **context: Any) -> None:
        """Start workers; each is called with the whole context as keyword arguments.

        Args:
            workers: Coroutine functions.
            once_per_cluster: Run each worker in one process of those that share a backend. If that process
                dies, another one takes over within the backend's ``expiry_seconds``. A worker that loses its
                lease, because its process was frozen or Redis was unavailable for that time, is cancelled,
                and its later publications raise ``LeaseLost``. A worker that returns does not run again
                while its process lives.
            context: The keyword arguments of the workers.

        Raises:
            RegistrationError: A worker is not a coroutine function, does not accept the context, or would
                run once per cluster twice; or the manager is missing. No worker has been started then.
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
                    f"worker {worker!r} is not a coroutine function: pass the 'async def', uncalled"
                )
            try:
                inspect.signature(worker).bind(**context)
            except TypeError as error:
                raise RegistrationError(
                    f"worker {name} does not accept this context: {error}"
                ) from error
        if once_per_cluster:
            leases = [lease_name(worker) for worker in workers]
            known = [*self.leases, *leases]
            duplicates = [lease for lease in leases if known.count(lease) > 1]
            if duplicates:
                raise RegistrationError(
                    f"worker {duplicates[0]} is started twice: both would need the same lease;"
                    " write a function for each"
                )
            self.leases += leases
        for worker, name in zip(workers, names, strict=True):
            if once_per_cluster:
                worker = functools.partial(self.run_once_per_cluster, name, worker)
            task = asyncio.create_task(self.supervise(name, worker, context), name=f"worker {name}")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def run_once_per_cluster(self, name: str, worker: Worker, **context: Any) -> None:
        """Run a worker whenever this process holds its lease, until it returns or raises."""
        assert self.manager is not None
        backend = self.manager.backend
        pause_seconds = min(MAX_PAUSE_SECONDS, backend.timing.renewal_seconds)
        has_returned = False
        while True:
            try:
                lease = await backend.acquire(lease_name(worker))
            except BackendUnavailable as error:
                logger.info("worker %s: lease not acquired: %s; retrying", name, error)
                await asyncio.sleep(pause_seconds)
                continue
            if not isinstance(lease, Lease):
                await asyncio.sleep(min(max(lease, MIN_PAUSE_SECONDS), pause_seconds))
                continue
            try:
                if not has_returned:
                    has_returned = await run_with_lease(lease, backend, worker, context)
                if has_returned:
                    # NOTE: while this process holds the lease, no other one repeats the work.
                    await keep_renewing(lease, backend)
            finally:
                await backend.release(lease)
            logger.warning("worker %s: lease lost; another process may run it", name)

    async def stop(self) -> None:
        """Cancel all workers and wait up to ``stop_seconds`` for their end.

        A worker that has not ended by then is logged. If it still runs when the event loop ends, the process
        does not wait for it and exits with status 1.
        """
        self.leases.clear()
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
            fail_on_exit(asyncio.wait(pending))

    async def supervise(self, name: str, worker: Worker, context: dict[str, Any]) -> None:
        """Run a worker, and restart it after failures if that is configured."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        attempt = 0
        while True:
            started_at = loop.time()
            try:
                await worker(**context)
            except (GeneratorExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                # NOTE: SystemExit out of a task would stop the event loop at once. A CancelledError
                #   without a cancellation of this task is a failure, too.
                if task.cancelling():
                    if isinstance(error, asyncio.CancelledError):
                        raise
                    logger.exception("worker %s died while being stopped", name)
                    return
                if self.restart is None:
                    logger.critical("worker %s died", name, exc_info=True)
                    loop.call_soon(self.on_death)
                    return
                if loop.time() - started_at >= self.restart.reset_seconds:
                    attempt = 0
                delay = self.restart.delay_seconds(attempt)
                attempt += 1
                logger.exception("worker %s died; restarting in %.3f s", name, delay)
            else:
                logger.info("worker %s has returned", name)
                return
            await asyncio.sleep(delay)

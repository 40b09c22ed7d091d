"""The workers of an application: started, supervised and stopped."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any, Protocol

from ..backends.base import Backend
from ..errors import BackendUnavailable, RegistrationError
from ..support.counters import Counters
from ..support.exit_status import fail_on_exit, stop_server
from .backoff import Backoff, check_seconds
from .cluster import Worker, lease_name, run_once_per_cluster

logger = logging.getLogger(__name__)


class HasBackend(Protocol):
    """The part of a manager that workers use."""

    backend: Backend


class WorkerController:
    """Starts, supervises and stops workers.

    A worker is a coroutine function. It usually runs until it is cancelled, but may return. If it raises,
    the traceback is logged and the server stops: a process without its worker only looks healthy. If it
    raises ``BackendUnavailable``, it restarts after a delay instead: the server, too, waits for Redis.

    Args:
        on_death: Called after the failure of a worker instead of stopping the server.
        stop_seconds: How long ``stop`` waits for workers to end.
        restart: Restart a failed worker after a delay, any number of times, without calling ``on_death``;
            ``None`` for ``Backoff()`` after ``BackendUnavailable``, and no restart after other exceptions.
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
        self.counters = Counters() if manager is None else manager.backend.counters
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
            if once_per_cluster and self.manager is not None:
                worker = functools.partial(run_once_per_cluster, self.manager.backend, name, worker)
            task = asyncio.create_task(self.supervise(name, worker, context), name=f"worker {name}")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

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
        """Run a worker; restart it after an outage of Redis, and after failures if that is configured."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        backoff, attempt = self.restart or Backoff(), 0
        while True:
            started_at = loop.time()
            self.counters.worker_starts += 1
            self.counters.workers += 1
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
                self.counters.worker_deaths += 1
                if self.restart is None and not isinstance(error, BackendUnavailable):
                    logger.critical("worker %s died", name, exc_info=True)
                    loop.call_soon(self.on_death)
                    return
                if loop.time() - started_at >= backoff.reset_seconds:
                    attempt = 0
                delay = backoff.delay_seconds(attempt)
                attempt += 1
                log_restart(name, error, delay)
            else:
                logger.info("worker %s has returned", name)
                return
            finally:
                self.counters.workers -= 1
            await asyncio.sleep(delay)


def log_restart(name: str, error: BaseException, delay_seconds: float) -> None:
    """Log why a worker restarts: an outage in one line, a failure with its traceback."""
    if isinstance(error, BackendUnavailable):
        logger.warning(
            "worker %s: Redis is unavailable: %s; restarting in %.3f s", name, error, delay_seconds
        )
    else:
        logger.error("worker %s died; restarting in %.3f s", name, delay_seconds, exc_info=error)

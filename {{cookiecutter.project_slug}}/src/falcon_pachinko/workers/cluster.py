"""A worker that runs in one process of the cluster: the process that holds the worker's lease."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ..backends.base import Backend
from ..backends.lease import CURRENT_LEASE, Lease
from ..errors import BackendUnavailable, LeaseLost
from .schedule import CURRENT_SCHEDULES, LeasedSchedules

logger = logging.getLogger(__name__)

Worker = Callable[..., Coroutine[Any, Any, None]]

# The bounds of the pause between two attempts to acquire the lease of a worker.
MAX_PAUSE_SECONDS = 5.0
MIN_PAUSE_SECONDS = 0.02


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
    """Run a worker while its lease is held; return whether it has returned.

    A worker that is cancelled because its lease is lost cannot publish any more while it ends.
    """
    CURRENT_LEASE.set(lease)
    CURRENT_SCHEDULES.set(LeasedSchedules(backend, lease))
    running = asyncio.create_task(contain_exit(worker, context))
    renewing = asyncio.create_task(keep_renewing(lease, backend))
    try:
        await asyncio.wait({running, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            lease.revoke()
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


async def run_once_per_cluster(
    backend: Backend, name: str, worker: Worker, /, **context: Any
) -> None:
    """Run a worker whenever this process holds its lease, until it returns or raises."""
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
        # NOTE: this process would be the first to acquire the lease that it has failed to renew.
        await asyncio.sleep(pause_seconds)

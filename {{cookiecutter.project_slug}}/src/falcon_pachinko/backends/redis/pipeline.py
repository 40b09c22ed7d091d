"""Pipelining: operations submitted in one loop iteration share one call to Redis or Valkey."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from redis.exceptions import BusyLoadingError, NoPermissionError, ReadOnlyError

from ...errors import BackendUnavailable, OperationRefused, failure_reason
from ...support.tasks import ignore
from .client import CONNECTION_ERRORS, Operation, RedisClient
from .script import ENCODE, NODES

logger = logging.getLogger(__name__)

# The script blocks Redis for about 5 µs per operation.
MAX_OPERATIONS_PER_CALL = 256

# The codes of error replies that concern all rooms; redis-py has removed some and raised its own class instead.
OUTAGE_CODES = frozenset({"READONLY", "NOPERM", "MISCONF", "LOADING", "MASTERDOWN", "NOREPLICAS"})

OnResult = Callable[[Any], Any]
OnFailure = Callable[[BackendUnavailable], Any]


class PendingOperation(NamedTuple):
    """An operation, its future and the callbacks that compute the outcome."""

    operation: Operation
    future: asyncio.Future[Any]
    on_result: OnResult | None
    on_failure: OnFailure | None

    def succeed(self, result: Any) -> None:
        """Process the result, even if the future is cancelled."""
        if isinstance(result, Exception):
            kind = BackendUnavailable if is_outage_error(result) else OperationRefused
            self.fail(kind(str(result)))
            return
        try:
            outcome = result if self.on_result is None else self.on_result(result)
        except Exception as error:
            if not self.future.done():
                self.future.set_exception(error)
        else:
            if not self.future.done():
                self.future.set_result(outcome)

    def fail(self, error: BackendUnavailable) -> None:
        """Process the failure."""
        if self.on_failure is not None:
            outcome = self.on_failure(error)
            if not self.future.done():
                self.future.set_result(outcome)
        elif not self.future.done():
            self.future.set_exception(error)


class Pipeline:
    """Executes operations in the order of submission, one call at a time.

    Operations submitted during a call wait for the next one, so that calls grow with the load.

    Attributes:
        outage: The reason why Redis is unavailable; empty while it is available.

    Args:
        client: Executes the calls.
        on_outage: Called with the reason after each failed call.
    """

    def __init__(self, client: RedisClient, on_outage: Callable[[str], None]) -> None:
        self.client = client
        self.on_outage = on_outage
        self.outage = ""
        self.submitted: list[PendingOperation] = []
        self.idle: asyncio.Future[None] | None = None

    def submit(
        self,
        operation: Operation,
        on_result: OnResult | None = None,
        on_failure: OnFailure | None = None,
    ) -> asyncio.Future[Any]:
        """Submit an operation.

        Args:
            operation: Its name, the hash tag of its room, and its arguments.
            on_result: Computes the outcome from the result.
            on_failure: Computes the outcome without a result.

        Raises:
            BackendUnavailable: From the future: Redis may have executed the operation or not.
            OperationRefused: From the future: Redis has not completed it, but executes others.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.submitted.append(PendingOperation(operation, future, on_result, on_failure))
        if self.idle is not None and not self.idle.done():
            self.idle.set_result(None)
        return future

    def call(self, name: str, tag: str, *args: Any) -> asyncio.Future[Any]:
        """Submit an operation given by its parts; otherwise like :meth:`submit`."""
        return self.submit((name, tag, *args))

    def call_ignoring_outcome(self, name: str, tag: str, *args: Any) -> None:
        """Submit an operation unless Redis is unavailable, and ignore its outcome."""
        if not self.outage:
            self.submit((name, tag, *args), None, ignore)

    def check_available(self) -> None:
        """Raise BackendUnavailable during an outage."""
        if self.outage:
            raise BackendUnavailable(self.outage)

    def report_outage(self, reason: str) -> None:
        """Record that Redis is unavailable."""
        if not self.outage:
            logger.error("Redis is unavailable: %s; retrying", reason)
        self.outage = reason
        self.on_outage(reason)

    async def wait_idle(self, seconds: float) -> None:
        """Wait until all submitted operations have ended, or for a time."""
        last = self.submit(("live_nodes", NODES), None, ignore)
        await asyncio.wait({last}, timeout=seconds)

    async def run(self) -> None:
        """Execute submitted operations until cancelled; then fail the pending ones."""
        loop = asyncio.get_running_loop()
        batch: list[PendingOperation] = []
        try:
            while True:
                if not self.submitted:
                    self.idle = loop.create_future()
                    await self.idle
                batch = self.submitted[:MAX_OPERATIONS_PER_CALL]
                del self.submitted[:MAX_OPERATIONS_PER_CALL]
                try:
                    results = await self.client.execute([pending.operation for pending in batch])
                except UnicodeEncodeError:
                    self.reject_invalid(batch)
                except Exception as error:
                    self.on_failed_call(batch, error)
                else:
                    for pending, result in zip(batch, results, strict=True):
                        pending.succeed(result)
                    errors = [str(result) for result in results if is_outage_error(result)]
                    if errors:
                        # NOTE: a former master may be a replica now.
                        await self.client.drop_connection()
                        self.report_outage(errors[0])
                batch = []
        finally:
            for pending in [*batch, *self.submitted]:
                pending.fail(BackendUnavailable("the backend has been stopped"))

    def on_failed_call(self, batch: list[PendingOperation], error: Exception) -> None:
        """Report an outage and fail the operations of the call, and those submitted meanwhile."""
        if not isinstance(error, CONNECTION_ERRORS):
            logger.error("Redis: unexpected error in a call", exc_info=error)
        reason = failure_reason(error)
        batch += self.submitted
        self.submitted.clear()
        self.report_outage(reason)
        for pending in batch:
            pending.fail(BackendUnavailable(reason))

    def reject_invalid(self, batch: list[PendingOperation]) -> None:
        """Raise the error of each operation that is not valid UTF-8, and submit the others again, first."""
        valid = []
        for pending in batch:
            try:
                ENCODE([pending.operation])
            except UnicodeEncodeError as error:
                if not pending.future.done():
                    pending.future.set_exception(error)
            else:
                valid.append(pending)
        self.submitted[:0] = valid


def is_outage_error(result: Any) -> bool:
    """Return whether a result is an error that concerns all rooms."""
    known = (ReadOnlyError, NoPermissionError, BusyLoadingError)
    return isinstance(result, known) or (
        isinstance(result, Exception)
        and str(result).removeprefix("ERR ").partition(" ")[0] in OUTAGE_CODES
    )


async def wait_all(operations: Iterable[Awaitable[Any]]) -> list[Any]:
    """Wait for operations on different rooms and return their results; ``None`` for a refused one.

    Raises:
        BackendUnavailable: Redis is unavailable.
    """
    results = await asyncio.gather(*operations, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, OperationRefused):
            raise result
    return [None if isinstance(result, OperationRefused) else result for result in results]

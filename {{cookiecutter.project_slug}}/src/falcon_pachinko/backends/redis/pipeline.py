"""Pipelining: operations submitted in one loop iteration share one call to Redis or Valkey."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from ...errors import BackendUnavailable, OperationRefused, failure_reason
from ...support.tasks import ignore
from . import operations
from .availability import Availability
from .client import CONNECTION_ERRORS, RedisClient
from .operations import FENCED, Operation
from .pending import OnFailure, OnResult, PendingOperation, is_outage_error
from .script import ENCODE, ENCODING_ERRORS

logger = logging.getLogger(__name__)

T = TypeVar("T")

# The script blocks Redis for up to 70 µs per operation (measured: a user that joins with a message).
MAX_COST_PER_CALL = 32

# How often a room may refuse an operation for want of a lease before it fails.
MAX_ATTEMPTS = 5

# How long an operation that may wait is held back, if no other one starts a call: a call alone costs Redis more than it
# (measured: 20 µs in the script, and about as much to read and to write).
MAX_WAIT_SECONDS = 0.05


class Pipeline:
    """Executes operations in the order of submission, one call at a time.

    Operations submitted during a call wait for the next one, so that calls grow with the load. Operations that
    a room has refused because the node has no lease there, and later ones of the same room, are held until
    :meth:`release`.

    Attributes:
        availability: Whether Redis is available.
        calls: The time of calls.
        held: The operations that wait for a lease, by hash tag.
        on_fenced: Called with the hash tag of a room that has refused an operation for want of a lease.

    Args:
        client: Executes the calls.
        availability: See above.
        on_outage: Called with the reason after each failed call.
    """

    def __init__(
        self, client: RedisClient, availability: Availability, on_outage: Callable[[str], None]
    ) -> None:
        self.calls = availability.counters.redis_calls
        self.client = client
        self.availability = availability
        self.on_outage = on_outage
        self.on_fenced: Callable[[str], None] = ignore
        self.submitted: list[PendingOperation] = []
        self.held: dict[str, list[PendingOperation]] = {}
        self.idle: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.is_due = False
        self.has_ended = False

    @property
    def outage(self) -> str:
        """The reason why Redis is unavailable; empty while it is available."""
        return self.availability.outage

    def submit(
        self,
        operation: Operation[Any],
        on_result: OnResult | None = None,
        on_failure: OnFailure | None = None,
    ) -> asyncio.Future[Any]:
        """Submit an operation, with the call; the future gives the outcome.

        Args:
            operation: See :mod:`.operations`.
            on_result: Computes the outcome from the value of the reply.
            on_failure: Computes the outcome without a reply.

        Raises:
            BackendUnavailable: From the future: Redis may have executed the operation or not.
            OperationRefused: From the future: Redis has not completed it, but executes others.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        pending = PendingOperation(operation, future, on_result, on_failure, 0)
        if operation.needs_lease and operation.tag in self.held:
            self.held[operation.tag].append(pending)
        else:
            self._append(pending)
        return future

    async def call(self, operation: Operation[T]) -> T:
        """Execute an operation past those that are held, and return the value of its reply."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._append(PendingOperation(operation, future, None, None, -1))
        return await future

    def call_ignoring_outcome(self, operation: Operation[Any]) -> None:
        """Submit an operation unless Redis is unavailable, and ignore its outcome."""
        if not self.outage:
            self.submit(operation, None, ignore)

    def _append(self, pending: PendingOperation) -> None:
        if self.has_ended:
            pending.fail(BackendUnavailable("the backend has been stopped"))
            return
        self.submitted.append(pending)
        if not pending.operation.may_wait:
            self._start_call()
        elif self.timer is None:
            loop = asyncio.get_running_loop()
            self.timer = loop.call_later(MAX_WAIT_SECONDS, self._start_call)

    def _start_call(self) -> None:
        """Let :meth:`run` execute the submitted operations, those that may wait included."""
        self.is_due = True
        if self.idle is not None and not self.idle.done():
            self.idle.set_result(None)

    def hold(self, tag: str, refused: Iterable[PendingOperation] = ()) -> None:
        """Hold the operations of a room that need a lease: the refused ones, then those submitted after them."""
        held = self.held.setdefault(tag, [])
        held[:0] = refused
        rest: list[PendingOperation] = []
        for pending in self.submitted:
            waits = pending.may_wait and pending.operation.tag == tag
            (held if waits else rest).append(pending)
        self.submitted = rest

    def release(self, tag: str) -> None:
        """Submit the operations that are held for a room."""
        for pending in self.held.pop(tag, ()):
            self._append(pending)

    def check_available(self) -> None:
        """Raise BackendUnavailable during an outage."""
        self.availability.check()

    def report_outage(self, reason: str) -> None:
        """Record that Redis is unavailable."""
        self.availability.lose(reason)
        self.on_outage(reason)

    async def wait_idle(self, seconds: float) -> None:
        """Wait until all submitted operations have ended, or for a time."""
        last = self.submit(operations.live_nodes(), None, ignore)
        await asyncio.wait({last}, timeout=seconds)

    async def run(self) -> None:
        """Execute submitted operations until cancelled; then fail the pending ones."""
        loop = asyncio.get_running_loop()
        batch: list[PendingOperation] = []
        try:
            while True:
                while not (self.submitted and self.is_due):
                    self.idle = loop.create_future()
                    await self.idle
                batch = self.take_batch()
                try:
                    results = await self.execute(batch)
                except ENCODING_ERRORS:
                    called, batch = batch, []
                    self.reject_invalid(called)
                except Exception as error:
                    called, batch = batch, []
                    self.on_failed_call(called, error)
                else:
                    # NOTE: each operation ends once, also if this task is cancelled during the reset below.
                    called, batch = batch, []
                    outage = self.process(called, results)
                    if outage:
                        # NOTE: a former master may be a replica now.
                        await self.client.drop_connection()
                        self.report_outage(outage)
        finally:
            self.has_ended = True
            self.fail_all(batch, BackendUnavailable("the backend has been stopped"))

    async def execute(self, batch: list[PendingOperation]) -> list[Any]:
        """Execute operations in one call, and time it."""
        started = time.perf_counter()
        try:
            return await self.client.execute([each.operation.request for each in batch])
        finally:
            self.calls.observe(time.perf_counter() - started)

    def take_batch(self) -> list[PendingOperation]:
        """Return the operations of the next call."""
        count = cost = 0
        for pending in self.submitted:
            cost += pending.operation.cost
            if count and cost > MAX_COST_PER_CALL:
                break
            count += 1
        batch, self.submitted = self.submitted[:count], self.submitted[count:]
        self.is_due = bool(self.submitted)
        if not self.submitted:
            self._stop_timer()
        return batch

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def process(self, batch: list[PendingOperation], results: list[Any]) -> str:
        """Process the results of a call; return the error that concerns all rooms, if there is one."""
        outage = ""
        refused: dict[str, list[PendingOperation]] = {}
        for pending, result in zip(batch, results, strict=True):
            if result != FENCED:
                pending.succeed(result)
                outage = outage or (str(result) if is_outage_error(result) else "")
            elif not 0 <= pending.attempts < MAX_ATTEMPTS:
                pending.fail(OperationRefused("the node has no lease in the room"))
            else:
                again = pending._replace(attempts=pending.attempts + 1)
                refused.setdefault(pending.operation.tag, []).append(again)
        for tag, waiting in refused.items():
            is_held = tag in self.held
            self.hold(tag, waiting)
            if not is_held:
                self.on_fenced(tag)
        return outage

    def on_failed_call(self, batch: list[PendingOperation], error: Exception) -> None:
        """Report an outage and fail the operations of the call, and those submitted meanwhile."""
        if not isinstance(error, CONNECTION_ERRORS):
            logger.error("Redis: unexpected error in a call", exc_info=error)
        reason = failure_reason(error)
        self.report_outage(reason)
        self.fail_all(batch, BackendUnavailable(reason))

    def fail_all(self, batch: list[PendingOperation], error: BackendUnavailable) -> None:
        """Fail operations, and all that wait."""
        held, self.held = self.held, {}
        waiting, self.submitted = self.submitted, []
        self._stop_timer()
        for pending in [*batch, *waiting, *(each for room in held.values() for each in room)]:
            pending.fail(error)

    def reject_invalid(self, batch: list[PendingOperation]) -> None:
        """Fail each operation that has no encoding, and submit the others again, first."""
        valid = []
        for pending in batch:
            try:
                ENCODE([pending.operation.request])
            except ENCODING_ERRORS as error:
                if pending.on_failure is not None:
                    pending.fail(OperationRefused(str(error)))
                elif not pending.future.done():
                    pending.future.set_exception(error)
            else:
                valid.append(pending)
        self.submitted[:0] = valid
        self.is_due = True


async def wait_all(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """Wait for operations on different rooms and return their results; ``None`` for a refused one.

    Raises:
        BackendUnavailable: Redis is unavailable.
    """
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, OperationRefused):
            raise result
    return [None if isinstance(result, OperationRefused) else result for result in results]

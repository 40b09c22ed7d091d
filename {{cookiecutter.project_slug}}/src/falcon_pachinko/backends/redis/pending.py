"""An operation that waits for its reply, and the errors in replies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from redis.exceptions import BusyLoadingError, NoPermissionError, ReadOnlyError

from ...errors import BackendUnavailable, OperationRefused
from .operations import Operation

# The codes of error replies that concern all rooms; redis-py has removed some and raised its own class instead.
OUTAGE_CODES = frozenset({"READONLY", "NOPERM", "MISCONF", "LOADING", "MASTERDOWN", "NOREPLICAS"})

OnResult = Callable[[Any], Any]
OnFailure = Callable[[BackendUnavailable], Any]


class PendingOperation(NamedTuple):
    """An operation, its future and the callbacks that compute the outcome.

    Attributes:
        attempts: How often the room has refused it; -1 if it fails when it is refused.
    """

    operation: Operation[Any]
    future: asyncio.Future[Any]
    on_result: OnResult | None
    on_failure: OnFailure | None
    attempts: int

    @property
    def may_wait(self) -> bool:
        """Whether it waits while the node has no lease in the room."""
        return self.operation.needs_lease and self.attempts >= 0

    def succeed(self, result: Any) -> None:
        """Process the result, even if the future is cancelled."""
        if isinstance(result, Exception):
            kind = BackendUnavailable if is_outage_error(result) else OperationRefused
            self.fail(kind(str(result)))
            return
        try:
            outcome = self.operation.decode(result)
            if self.on_result is not None:
                outcome = self.on_result(outcome)
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


def is_outage_error(result: Any) -> bool:
    """Return whether a result is an error that concerns all rooms."""
    known = (ReadOnlyError, NoPermissionError, BusyLoadingError)
    return isinstance(result, known) or (
        isinstance(result, Exception)
        and str(result).removeprefix("ERR ").partition(" ")[0] in OUTAGE_CODES
    )

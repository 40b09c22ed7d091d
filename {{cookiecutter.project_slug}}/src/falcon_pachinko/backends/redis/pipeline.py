"""Operations on their way to the engine: what is asked for in one turn of the event loop goes together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from redis.exceptions import (
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

from ...errors import BackendUnavailable, failure_reason
from .client import FAILURES, Engine, Operation
from .script import ENCODE, NODES

logger = logging.getLogger(__name__)

# What one call holds at most: the engine does nothing else meanwhile (about 5 µs for each).
OPERATIONS_PER_CALL = 256

# What such an answer begins with, unless redis-py has taken that off and made a class of it.
REFUSALS = frozenset(
    {"OOM", "READONLY", "NOPERM", "MISCONF", "LOADING", "MASTERDOWN", "NOREPLICAS"}
)

Then = Callable[[Any], Any]
Otherwise = Callable[[], Any]


class Call(NamedTuple):
    """One operation, who waits for it, and what becomes of its answer."""

    operation: Operation
    future: asyncio.Future[Any]
    then: Then | None
    otherwise: Otherwise | None

    def succeed(self, result: Any) -> None:
        """Take the engine's answer, even where nobody waits any more."""
        if isinstance(result, Exception):
            self.fail(str(result))
            return
        try:
            outcome = result if self.then is None else self.then(result)
        except Exception as error:
            if not self.future.done():
                self.future.set_exception(error)
        else:
            if not self.future.done():
                self.future.set_result(outcome)

    def fail(self, reason: str) -> None:
        """There is no answer."""
        if self.otherwise is not None:
            outcome = self.otherwise()
            if not self.future.done():
                self.future.set_result(outcome)
        elif not self.future.done():
            self.future.set_exception(BackendUnavailable(reason))


class Calls:
    """Sends operations in the order in which they were posted, one call after the other.

    While a call is under way, what is posted waits for the next one: under load more and more go together.

    Attributes:
        away: Why the engine is away; empty when it is not.

    Args:
        engine: Who does them.
        on_lost: Called with the reason each time when the engine does not answer.
    """

    def __init__(self, engine: Engine, on_lost: Callable[[str], None]) -> None:
        self.engine = engine
        self.on_lost = on_lost
        self.away = ""
        self.posted: list[Call] = []
        self.idle: asyncio.Future[None] | None = None

    def post(
        self, operation: Operation, then: Then | None = None, otherwise: Otherwise | None = None
    ) -> asyncio.Future[Any]:
        """Ask for an operation.

        Args:
            operation: Its name, the hash tag of its room, and what it needs.
            then: Makes the outcome of the engine's answer.
            otherwise: Makes it where there is none.

        Raises:
            BackendUnavailable: From the future: the engine may have done it or not.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.posted.append(Call(operation, future, then, otherwise))
        if self.idle is not None and not self.idle.done():
            self.idle.set_result(None)
        return future

    def call(self, name: str, tag: str, *args: Any) -> asyncio.Future[Any]:
        """Ask for an operation by its parts; otherwise like :meth:`post`."""
        return self.post((name, tag, *args))

    def call_aside(self, name: str, tag: str, *args: Any) -> None:
        """Ask for an operation whose outcome nobody needs."""
        if not self.away:
            self.post((name, tag, *args), None, nothing)

    def lose(self, reason: str) -> None:
        """The engine is away from now on."""
        if not self.away:
            logger.error("the engine of the rooms is away: %s; trying on", reason)
        self.away = reason
        self.on_lost(reason)

    async def wait_idle(self, seconds: float) -> None:
        """Wait until all that is posted has been answered, so long at most."""
        last = self.post(("living", NODES), None, nothing)
        await asyncio.wait({last}, timeout=seconds)

    async def run(self) -> None:
        """Send what is posted until cancelled; then nobody is left waiting."""
        loop = asyncio.get_running_loop()
        batch: list[Call] = []
        try:
            while True:
                if not self.posted:
                    self.idle = loop.create_future()
                    await self.idle
                batch = self.posted[:OPERATIONS_PER_CALL]
                del self.posted[:OPERATIONS_PER_CALL]
                try:
                    results = await self.engine.call([call.operation for call in batch])
                except UnicodeEncodeError:
                    self.refuse(batch)
                except Exception as error:
                    if not isinstance(error, FAILURES):
                        logger.exception("a call to the engine failed as none should")
                    reason = failure_reason(error)
                    # NOTE: what was posted meanwhile would only wait for the same.
                    batch += self.posted
                    self.posted.clear()
                    self.lose(reason)
                    for call in batch:
                        call.fail(reason)
                else:
                    for call, result in zip(batch, results, strict=True):
                        call.succeed(result)
                    refusals = [str(result) for result in results if is_refusal(result)]
                    if refusals:
                        # NOTE: a server that was in charge may be a replica now.
                        await self.engine.let_go()
                        self.lose(refusals[0])
                batch = []
        finally:
            for call in [*batch, *self.posted]:
                call.fail("it has been stopped")

    def refuse(self, batch: list[Call]) -> None:
        """Give those their error who say what cannot be written as UTF-8; the others go first in the next call."""
        good = []
        for call in batch:
            try:
                ENCODE([call.operation])
            except UnicodeEncodeError as error:
                if not call.future.done():
                    call.future.set_exception(error)
            else:
                good.append(call)
        self.posted[:0] = good


def is_refusal(result: Any) -> bool:
    """Whether the engine answers that it cannot be worked with at all, and not only in one room."""
    known = (OutOfMemoryError, ReadOnlyError, NoPermissionError, BusyLoadingError)
    return isinstance(result, known) or (
        isinstance(result, Exception)
        and str(result).removeprefix("ERR ").partition(" ")[0] in REFUSALS
    )


def nothing() -> None:
    """What becomes of an answer that nobody needs."""

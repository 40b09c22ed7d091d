"""Values of the identity provider that are kept: its metadata and its keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from falcon_pachinko import ProviderUnavailable
from falcon_pachinko.support.tasks import TaskSet

T = TypeVar("T")

# Keys that a provider has withdrawn are accepted for so long.
MAX_AGE_SECONDS = 900.0
COOLDOWN_SECONDS = 30.0
# During an outage: how often a request is tried at most.
RETRY_SECONDS = 5.0


class Cached(Generic[T]):
    """A value that is fetched when it is first needed, and kept if fetching it again fails.

    There is one request at a time, and one per cooldown, however many callers there are.

    Args:
        fetch: Fetches the value; raises ProviderUnavailable.
        tasks: Owns the requests.
        cooldown_seconds: The least time between two requests, unless the value is missing after a failure.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[T]],
        tasks: TaskSet,
        *,
        cooldown_seconds: float = COOLDOWN_SECONDS,
    ) -> None:
        self.fetch = fetch
        self.tasks = tasks
        self.cooldown_seconds = cooldown_seconds
        self.value: T | None = None
        self.fetched_at = 0.0  # in Unix seconds, for comparison with the time of a token
        self.failure: ProviderUnavailable | None = None
        self._request: asyncio.Task[None] | None = None
        self._age_from = self._next_request_at = float("-inf")

    async def get(self) -> T:
        """Return the value. An old one is returned at once and replaced in the background.

        Raises:
            ProviderUnavailable: There is none yet, and it cannot be fetched.
        """
        if self.value is None:
            await self.refresh()
        elif time.monotonic() - self._age_from > MAX_AGE_SECONDS:
            self._start()
        if self.value is None:
            raise self.failure or ProviderUnavailable("the last request has not ended")
        return self.value

    async def refresh(self, *, at_once: bool = False) -> None:
        """Fetch the value again, or wait for the request that does; do nothing during the cooldown.

        Args:
            at_once: Whether to disregard the cooldown.
        """
        request = self._start(at_once=at_once)
        if request is not None:
            # NOTE: a caller that is cancelled does not cancel the request of the others.
            await asyncio.wait({request})
            request.result()

    def _start(self, *, at_once: bool = False) -> asyncio.Task[None] | None:
        if self._request is not None and not self._request.done():
            return self._request
        now = time.monotonic()
        if now < self._next_request_at and not at_once:
            return None
        self._next_request_at = now + self.cooldown_seconds
        self._request = self.tasks.create_task(self._fetch())
        return self._request

    async def _fetch(self) -> None:
        started_at = time.time()
        try:
            self.value = await self.fetch()
        except ProviderUnavailable as error:
            self.failure = error
            retry_seconds = min(RETRY_SECONDS, self.cooldown_seconds)
            self._next_request_at = time.monotonic() + retry_seconds
        else:
            self.failure, self.fetched_at = None, started_at
            self._age_from = time.monotonic()

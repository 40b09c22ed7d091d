"""The connections of each user on this node, counted over all nodes in Redis or Valkey."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Sequence

from ...errors import BackendUnavailable, OperationRefused
from ..user_counts import UserCounts
from . import operations
from .operations import Counted, Terms
from .pipeline import Pipeline
from .room_index import chunks
from .script import USER_LEASES, user_tag


class UserCount:
    """The connections of a user on this node.

    Attributes:
        held: The number of granted places.
        waiting: The requests for others, in the order in which they were made.
        stored: The number of places that Redis has; ``None`` if it is unknown.
        written_at: The time of the last reply, on the event loop's clock.
        is_sending: Whether an operation has no reply yet.
    """

    __slots__ = ("held", "is_sending", "stored", "waiting", "written_at")

    def __init__(self) -> None:
        self.held = 0
        self.waiting: Sequence[asyncio.Future[bool]] = ()
        self.stored: int | None = 0
        self.written_at = -math.inf
        self.is_sending = False

    def grant(self, waiting: Sequence[asyncio.Future[bool]], places: float) -> None:
        """Grant requests as long as there are places, and refuse the others."""
        for request in waiting:
            if not request.done():
                granted = places > 0
                places -= granted
                self.held += granted
                request.set_result(granted)


class UserCountTable(UserCounts):
    """The connections of each user on this node.

    A user has at most one operation without a reply, which sets the number of the node's connections and asks for the
    places of all requests that wait. Redis therefore has the true number after each reply, and a repetition changes
    nothing.

    Args:
        pipeline: Executes operations.
        terms: The node, and its durations.
    """

    def __init__(self, pipeline: Pipeline, terms: Terms) -> None:
        self.pipeline = pipeline
        self.terms = terms
        self.users: dict[str, UserCount] = {}
        self.max_connections = 0
        self.live_nodes: Collection[str] = ()
        self.live_at = -math.inf

    def reserve_user_nowait(self, user: str, max_connections: float) -> asyncio.Future[bool] | None:
        """Reserve a place for a connection of a user."""
        if max_connections == math.inf:
            return None
        self.max_connections = int(max_connections)
        count = self.users.setdefault(user, UserCount())
        if self.pipeline.outage:
            count.held += 1
            return None
        request: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        count.waiting = [*count.waiting, request]
        self._send_change(user, count)
        return request

    def release_user(self, user: str) -> None:
        """Release a place that was granted."""
        count = self.users.get(user)
        if count is not None:
            count.held -= 1
            self._send_change(user, count)

    def _send_change(self, user: str, count: UserCount, dead: Sequence[str] = ()) -> None:
        """Send what Redis does not have, or discard a user without connections; without Redis, grant all places."""
        if count.is_sending:
            return
        if self.pipeline.outage:
            waiting, count.waiting = count.waiting, ()
            count.grant(waiting, math.inf)
        elif count.waiting or count.held != count.stored:
            self._send_nowait(user, count, dead)
        if not (count.is_sending or count.held or count.stored != 0):
            del self.users[user]

    def _send_nowait(
        self, user: str, count: UserCount, dead: Sequence[str] = ()
    ) -> asyncio.Future[BackendUnavailable | None]:
        """Send the number of the node's connections, and the requests that wait; the future has the failure."""
        count.is_sending = True
        count.waiting = [request for request in count.waiting if not request.done()]
        held, number = count.held, len(count.waiting)

        def on_reply(counted: Counted) -> None:
            count.is_sending = False
            count.stored, count.written_at = counted.granted, asyncio.get_running_loop().time()
            places = counted.granted - held
            dead = self._dead_nodes(counted.old)
            # NOTE: what is not granted is asked for again without the entries of dead nodes.
            answered = places if dead else number
            waiting, count.waiting = count.waiting[:answered], count.waiting[answered:]
            count.grant(waiting, places)
            self._send_change(user, count, dead)

        def on_failure(error: BackendUnavailable) -> BackendUnavailable:
            count.is_sending, count.stored = False, None
            waiting, count.waiting = count.waiting, ()
            count.grant(waiting, math.inf)
            return error

        places = (held, held + number, self.max_connections)
        operation = operations.count_user(user_tag(user), self.terms, *places, dead)
        return self.pipeline.submit(operation, on_reply, on_failure)

    def _dead_nodes(self, names: Sequence[str]) -> list[str]:
        """Return which nodes have lost their place in the list of nodes, as far as this is certain."""
        age_seconds = asyncio.get_running_loop().time() - self.live_at
        if age_seconds > self.terms.lease / 1000 or self.pipeline.client.in_doubt():
            return []
        return [name for name in names if name not in self.live_nodes]

    async def renew(self, live_nodes: Collection[str]) -> None:
        """Write counts that are old or unknown; all of them after an outage, or if Redis has lost this node.

        Args:
            live_nodes: The nodes that Redis has as live, before it has renewed this one.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        now = self.live_at = asyncio.get_running_loop().time()
        everything = self.terms.node not in live_nodes or bool(self.pipeline.outage)
        self.live_nodes = frozenset(live_nodes)
        due = now - USER_LEASES * self.terms.lease / 1000 / 3
        users = [
            user
            for user, count in self.users.items()
            if everything or count.stored is None or count.written_at <= due
        ]
        for chunk in chunks(users):
            counts = [(user, self.users[user]) for user in chunk if user in self.users]
            sent = [self._send_nowait(*each) for each in counts if not each[1].is_sending]
            for failure in await asyncio.gather(*sent):
                if failure is not None and not isinstance(failure, OperationRefused):
                    raise failure

    def send_changes(self) -> None:
        """Send what has changed during an outage."""
        for user, count in list(self.users.items()):
            self._send_change(user, count)

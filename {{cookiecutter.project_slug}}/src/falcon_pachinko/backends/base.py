"""The contract of backends: ordered publishing, history, presence and leases, for one process or many.

A backend carries publications from the process that publishes them (a node) to all nodes that have
members of the room. One test suite verifies these guarantees for every backend:

- **Publish.** All nodes deliver the publications of a room in one order, the publishing node included: it
  does not deliver its own first. A publication arrives at every node with members, or the publish raises
  :class:`~falcon_pachinko.errors.BackendUnavailable`, or both. It is never lost silently, and Redis
  (or Valkey) does not execute it after ``answer_seconds``.
- **Membership.** A node receives the publications of a room from the return of :meth:`Backend.subscribe`
  until :meth:`Backend.unsubscribe`.
- **History.** A room whose members declare a :class:`History` keeps its last publications, each with its
  :class:`Position`. :meth:`Backend.recover` returns everything after a position, in order and without a
  gap, or ``None``; never a part.
- **Presence.** The members of a room are stored by connection id, not counted, so that repeating a call
  changes nothing. The first connection of a user and the end of the last one are each announced exactly
  once in the cluster. When a node dies, another node announces the end of its users. A backend may announce
  joins and leaves of a large room in batches (:class:`~falcon_pachinko.presence.PresenceBatch`).
- **Outage.** While Redis is unavailable, connections stay open, joins succeed and are completed later,
  publishing raises, and :attr:`Backend.outage` gives the reason. Afterwards each node receives the
  publications that it missed; if they are lost, :meth:`Node.on_history_lost` is called.
- **Leases.** At any time, one node at most holds the lease of a name, with a token that is higher than any
  earlier one.
"""

from __future__ import annotations

import contextvars
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Generator, Sequence
from dataclasses import dataclass, fields
from typing import Generic, Protocol, TypeVar

from ..errors import ConfigurationError
from ..history import History, Position
from ..presence import MemberPage
from ..publication import Publication
from .presence import Presence

T = TypeVar("T")

ANSWER_SECONDS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The timeouts and intervals of the nodes of a cluster.

    Attributes:
        grace_seconds: How long a user remains present after the last connection has ended, so that a page
            reload is not a departure. 0 for no grace period.
        heartbeat_seconds: The interval of a node's heartbeats.
        expiry_seconds: The time after the last heartbeat at which a node expires, and the duration of a
            lease.
        answer_seconds: The time Redis may take to respond before it counts as unavailable.

    Raises:
        ConfigurationError: A value is not a number above zero, or the expiry is not above the heartbeat.
    """

    grace_seconds: float = 5.0
    heartbeat_seconds: float = 10.0
    expiry_seconds: float = 30.0
    answer_seconds: float = ANSWER_SECONDS

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            is_finite = isinstance(value, (int, float)) and math.isfinite(value)
            may_be_zero = field.name == "grace_seconds"
            if not is_finite or value < 0 or (value == 0 and not may_be_zero):
                raise ConfigurationError(
                    f"{field.name} is {value!r}: it must be a number above zero"
                )
        if self.expiry_seconds <= self.heartbeat_seconds:
            raise ConfigurationError(
                f"expiry_seconds is {self.expiry_seconds!r}: it must be above heartbeat_seconds,"
                f" which is {self.heartbeat_seconds!r}"
            )


class ImmediateResult(Generic[T]):
    """An awaitable whose value is known, without the cost of a future."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def __await__(self) -> Generator[None, None, T]:
        return self.value
        yield


class Lease:
    """The exclusive right to run a named task for a limited time.

    Attributes:
        name: The name of the task.
        token: Higher than any earlier token of this name (a fencing token: Kleppmann, "How to do
            distributed locking").
        expires: The time of expiry on the event loop's clock.
    """

    __slots__ = ("expires", "name", "token")

    def __init__(self, name: str, token: int, expires: float) -> None:
        self.name = name
        self.token = token
        self.expires = expires


# The lease of the worker that is running in this context: its publications carry the fencing token.
CURRENT_LEASE: contextvars.ContextVar[Lease | None] = contextvars.ContextVar("lease", default=None)


class Node(Protocol):
    """The callbacks of a backend into its process. None of them waits or raises."""

    def deliver(self, room: str, publication: Publication, /) -> None:
        """Deliver a publication to the local members of a room."""

    def deliver_direct(self, publication: Publication, /) -> None:
        """Deliver a publication to its addressee, or to all connections."""

    def on_history_lost(self, room: str, /) -> None:
        """Notify the local members that messages are missing before the next one."""

    def on_resync(self, room: str, /) -> None:
        """Send missed messages to connections that joined during an outage, before live ones."""


class Backend(ABC):
    """A backend; see the module's docstring for the guarantees.

    Attributes:
        node_id: The name of this process in the cluster; the ids of its connections begin with it.
        timing: Timeouts and intervals.
        node: Receives publications; set before :meth:`start`.
    """

    node_id: str
    timing: Timing
    node: Node

    @property
    @abstractmethod
    def outage(self) -> str:
        """The reason why Redis is unavailable; empty while it is available."""

    @property
    def single(self) -> bool:
        """Whether the backend serves one process only: a second process would have rooms of its own."""
        return False

    @property
    def details(self) -> dict[str, str]:
        """Facts about the servers of the backend, for operators; empty if there are none."""
        return {}

    @abstractmethod
    async def start(self) -> None:
        """Start. If Redis is unavailable, return after ``answer_seconds`` and keep retrying."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop, after all connections have ended."""

    @abstractmethod
    def publish(
        self, room: str, publication: Publication, *, ephemeral: bool = False
    ) -> Awaitable[None]:
        """Publish to a room, with or without members.

        An ephemeral publication keeps its place in the order, but has no position and is not stored.

        Raises:
            BackendUnavailable: The publication may not have arrived.
            LeaseLost: The publishing worker has been replaced.
        """

    @abstractmethod
    def publish_direct(self, publication: Publication) -> Awaitable[int]:
        """Publish to a user, a connection or all connections, at most once; return the number of nodes.

        Raises:
            BackendUnavailable: The publication may not have arrived.
        """

    @abstractmethod
    async def subscribe(self, room: str, history: History | None) -> None:
        """Receive the publications of a room; an outage delays it and does not raise."""

    @abstractmethod
    def unsubscribe(self, room: str) -> None:
        """Undo one :meth:`subscribe`."""

    @abstractmethod
    def position(self, room: str) -> Position | None:
        """Return the position of the last publication delivered here; ``None`` without history."""

    @abstractmethod
    async def recover(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Return the publications after a position up to :meth:`position`; ``None`` if some are gone.

        Of ``since``, the position with the room's epoch counts. Nothing is delivered between the return
        and the caller's next ``await``.

        Raises:
            BackendUnavailable: Redis is unavailable; :meth:`Node.on_resync` is called once
                :meth:`recover_local` has the publications.
        """

    @abstractmethod
    def recover_local(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Like :meth:`recover`, from the data in this process only."""

    @abstractmethod
    def enter(self, room: str, presence: Presence) -> Awaitable[bool]:
        """Add a connection to a room; return whether it is the user's first. An outage does not raise."""

    @abstractmethod
    def leave(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """Remove a connection from a room; return whether the user has left with it.

        It takes effect with the call, awaited or not, and does not raise during an outage. With ``grace``,
        a user whose presence has messages leaves only after ``grace_seconds`` without another connection;
        the result is ``False`` then.
        """

    @abstractmethod
    async def present(self, room: str, user: str) -> bool:
        """Return whether a user is in a room."""

    @abstractmethod
    async def members(
        self, room: str, after: int | str | None = None, limit: int | None = None
    ) -> MemberPage:
        """Return a page of the users in a room: each once, in the order in which they joined.

        Args:
            room: The room.
            after: The page begins after this cursor, or after this user, who is in the room.
            limit: The maximum number of users; ``None`` for all.

        Raises:
            LookupError: The user is not in the room.
        """

    @abstractmethod
    async def member_count(self, room: str) -> int:
        """Return the number of users in a room."""

    @abstractmethod
    async def rooms(self, prefix: str) -> list[str]:
        """Return the sorted names of the non-empty rooms with a prefix, or raise BackendUnavailable."""

    @abstractmethod
    async def acquire(self, name: str) -> Lease | float:
        """Acquire a lease, or return the seconds until the next attempt, or raise BackendUnavailable."""

    @abstractmethod
    async def renew(self, lease: Lease) -> bool:
        """Extend a lease and return whether it is still held, or raise BackendUnavailable."""

    @abstractmethod
    async def release(self, lease: Lease) -> None:
        """Release a lease if it is still held."""

"""The contract of backends: a broker, presence and leases, for one process or many.

A backend carries publications from the process that publishes them (a node) to all nodes that have
members of the room. All nodes deliver the publications of a room in one order, the publishing node
included: it does not deliver its own first. A node receives the publications of a room from the return
of :meth:`Broker.subscribe` until :meth:`Broker.unsubscribe`. Three suites of tests, one for each contract,
verify the guarantees for every backend. They hold from every state of Redis or Valkey: keys that are missing,
evicted, expired or of a wrong type, a clock that has jumped, a node or a server that was frozen for any time.

- **P1, no silent loss.** A numbered publication whose publish returned was delivered to every live node that
  had subscribed at that time, or :meth:`Node.on_history_lost` is called; and it is called only where something
  was lost, or where another server has taken the place of the one with the room: then nobody can know it. A
  publish raises :class:`~falcon_pachinko.errors.BackendUnavailable` if the publication may not have arrived;
  Redis does not execute it after ``answer_seconds``. :meth:`Broker.recover` returns everything after a position,
  in order and without a gap, or ``None``; never a part.
- **P2, presence is a lease.** A user is listed only while the node that holds the connection is known to be
  live. The members of a room and their records are stored by connection id, not counted, so that repeating a
  call changes nothing. A record is never replaced by an earlier one of its connection. The first connection of a
  user and the end of the last one are each announced exactly once.
- **P3, an expired node is fenced.** After a node's lease in a room has expired, the room refuses what the
  node sends until it has renewed the lease with the full list of its connections.
- **P4, snapshot and stream agree.** :meth:`PresenceStore.members` returns the list as of the last publication
  delivered on this node, with the records of all updates up to it. After an outage or a loss,
  :meth:`Node.on_members_outdated` is called.
- **P5, heals from nothing.** At most one renewal period (a third of the expiry) after a fault the state is as if
  it had never happened, except for history, whose loss is reported, and tickets. Restrictions survive.
- **P6, commands reach their target.** :meth:`Broker.command` returns when every live node has executed it, or
  raises; a node that was cut off executes it when it has recovered. So does
  :meth:`.restrictions.Restrictions.restrict`.
- **P7, re-entry is silent.** Users that were present and still are, are never announced again.

While Redis is unavailable, connections stay open, joins succeed and are completed later, publishing raises,
and :attr:`Backend.outage` gives the reason. At any time, one node at most holds the lease of a name, with a
token that is higher than any earlier one; once it is lost or released, a worker's publications raise
:class:`~falcon_pachinko.errors.LeaseLost`, and its schedules pass to the next holder. A backend may announce
joins and leaves of a large room in batches (:class:`~falcon_pachinko.presence.PresenceBatch`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Generator
from typing import Generic, Protocol, TypeVar

from ..history import History, Position
from ..presence import MemberPage
from ..publication import Publication
from .histories import Histories
from .lease import Lease
from .numbers import BackendNumbers
from .once import OnceRequests, OnceRun
from .presence import Presence
from .restriction_entry import RestrictionEntry
from .restrictions import Restrictions
from .tickets import Tickets
from .timing import Timing
from .user_counts import UserCounts

T = TypeVar("T")


class ImmediateResult(Generic[T]):
    """The handle of an operation that has ended: an awaitable whose value is known, without the cost of a future."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def __await__(self) -> Generator[None, None, T]:
        return self.value
        yield


class Node(Protocol):
    """The callbacks of a backend into its process. None of them waits or raises."""

    def deliver(self, room: str, publication: Publication, /) -> None:
        """Deliver a publication to the local members of a room."""

    def deliver_direct(self, publication: Publication, /) -> None:
        """Deliver a publication to its addressee, or to all connections."""

    def execute(self, command: Publication, room: str | None, age_seconds: float, /) -> None:
        """Close the connections of a user, those in a room, or all, that were there when the command was sent."""

    def on_restriction(self, entry: RestrictionEntry, /) -> None:
        """Close the connections that a changed restriction concerns."""

    def on_history_lost(self, room: str, /) -> None:
        """Notify the local members that messages are missing before the next one."""

    def on_members_outdated(self, room: str, /) -> None:
        """Let local members read the list of members again: changes may have been missed."""

    def on_resync(self, room: str, /) -> None:
        """Send missed messages to connections that joined during an outage, before live ones."""


class Broker(Histories):
    """The contract of messages: ordered publishing, subscriptions, history, commands."""

    @abstractmethod
    def publish_nowait(
        self,
        room: str,
        publication: Publication,
        *,
        ephemeral: bool = False,
        run: OnceRun | None = None,
    ) -> Awaitable[Position | None]:
        """Publish to a room, with or without members; act with the call, awaited or not.

        An ephemeral publication keeps its place in the order, but has no position and is not stored. With the
        execution of a request, the publication is its effect: both are recorded together, except on a cluster.

        Returns:
            A handle: an awaitable that gives the position.

        Raises:
            BackendUnavailable: From the call or the handle: the publication may not have arrived.
            LeaseLost: Likewise: the publishing worker has been replaced.
        """

    @abstractmethod
    async def publish_direct(self, publication: Publication) -> int:
        """Publish to a user, a connection or all connections, at most once; return the number of nodes.

        Raises:
            BackendUnavailable: The publication may not have arrived.
        """

    @abstractmethod
    async def command(self, publication: Publication, room: str | None = None) -> None:
        """Close the connections of a user, or those in a room, on all nodes; return when that is done.

        A node that is cut off executes the command when it has recovered, for the connections that existed
        when it was sent.

        Raises:
            BackendUnavailable: A live node has not confirmed it within ``answer_seconds``.
        """

    @abstractmethod
    async def subscribe(self, room: str, history: History | None) -> None:
        """Receive the publications of a room; an outage delays it and does not raise."""

    @abstractmethod
    def unsubscribe(self, room: str) -> None:
        """Undo one :meth:`subscribe`."""


class PresenceStore(ABC):
    """The contract of presence: the users in each room, in all processes."""

    @abstractmethod
    def enter_nowait(self, room: str, presence: Presence) -> Awaitable[bool]:
        """Add a connection to a room; act with the call, awaited or not.

        Returns:
            A handle: an awaitable that tells whether it is the user's first connection. An outage does not raise.
        """

    @abstractmethod
    async def update(
        self, room: str, presence: Presence, message: Publication | None = None
    ) -> None:
        """Store the record that a connection's presence has now, and publish a message with the change.

        During an outage the record is stored after it. The connection has entered the room; otherwise only
        the message is published.

        Raises:
            BackendUnavailable: The message may not have arrived. Without one, nothing is raised.
        """

    @abstractmethod
    def leave_nowait(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """Remove a connection from a room; act with the call, awaited or not.

        With ``grace``, a user whose presence has messages leaves only after ``grace_seconds`` and the presence's
        ``wait_seconds`` without another connection; the result is ``False`` then.

        Returns:
            A handle: an awaitable that tells whether the user has left with it. An outage does not raise.
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
    async def occupancy(self, room: str) -> int:
        """Return the number of users in a room."""

    @abstractmethod
    async def rooms(self, prefix: str) -> list[str]:
        """Return the sorted names of the non-empty rooms with a prefix, or raise BackendUnavailable."""


class Leases(ABC):
    """The contract of leases: the exclusive right to run a named task, and the schedules of its holders."""

    @abstractmethod
    async def acquire(self, name: str) -> Lease | float:
        """Acquire a lease, or return the seconds until the next attempt, or raise BackendUnavailable."""

    @abstractmethod
    async def renew(self, lease: Lease) -> bool:
        """Extend a lease and return whether it is still held, or raise BackendUnavailable."""

    @abstractmethod
    async def release(self, lease: Lease) -> None:
        """Release a lease if it is still held."""

    @abstractmethod
    async def tick(self, lease: Lease, schedule: str, seconds: float) -> float:
        """Take the next tick of a schedule of the lease's holders, if it is due.

        The first tick is one interval after the first call by any holder. Missed ticks count as one.

        Args:
            lease: The lease.
            schedule: The name of the schedule.
            seconds: The interval.

        Returns:
            The seconds until the next tick; 0 if one was due: no other call takes it.

        Raises:
            BackendUnavailable: The tick may have been taken; the next call returns 0 then.
            LeaseLost: The lease is not held any more.
        """


class Backend(
    Broker, PresenceStore, Leases, UserCounts, Restrictions, Tickets, OnceRequests, BackendNumbers
):
    """A backend of all contracts; see the module's docstring for the guarantees.

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

"""The contract of backends: one order per room, history, presence and leases, in one process or in many.

A backend carries what is said to a room from the process in which it is said (a node) to all that have
members of the room. What every backend promises, and one test suite shows of all of them:

- **Publish.** All nodes deliver what is published to a room in one order, the publishing node too: it
  never delivers its own first. A publish either arrives at every node that has members, raises
  :class:`~falcon_pachinko.errors.BackendUnavailable`, or both; it never vanishes without a word, nor is
  it taken up by the engine when ``answer_seconds`` have gone by.
- **Membership.** From the return of :meth:`Backend.subscribe` on, until :meth:`Backend.unsubscribe`, a
  node is given what is said in a room.
- **History.** A room whose members declare a :class:`History` keeps its last messages, each with its
  :class:`Position`. :meth:`Backend.recover` gives all that followed a position, in order, without a gap, or
  ``None``; never a part.
- **Presence.** Who is in a room is kept by the names of connections, never counted up and down: to say it
  twice changes nothing. The first connection of a user and the end of the last one are edges, each told
  exactly once in the cluster. When a node dies, another one tells of its users' end.
- **Outage.** While the engine is away, connections stay, joining works and is made up for, publishing
  raises, and :attr:`Backend.outage` says why. Afterwards each node is given what it missed; where
  that cannot be had any more, it is told so (:meth:`Node.on_history_lost`).
- **Leases.** Of all who ask for a lease of one name, one holds it, with a token that is higher than any
  before it.
"""

from __future__ import annotations

import contextvars
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Generator, Sequence
from dataclasses import dataclass, fields
from typing import Generic, Protocol, TypeVar

from ..errors import RegistrationError
from ..history import History, Position
from ..publication import Publication

T = TypeVar("T")

ANSWER_SECONDS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How patient the nodes of a cluster are with clients, with each other and with the engine.

    Attributes:
        grace_seconds: How long a user whose last connection has ended is still there: who reloads a page
            has not gone. 0 for no such time.
        heartbeat_seconds: How often a node says that it lives.
        expiry_seconds: How long after its last heartbeat a node counts as dead, and how long a lease holds.
        answer_seconds: How long the engine may take to answer; then it is away.

    Raises:
        RegistrationError: One of them is no number above zero, or the expiry is not above the heartbeat.
    """

    grace_seconds: float = 5.0
    heartbeat_seconds: float = 10.0
    expiry_seconds: float = 30.0
    answer_seconds: float = ANSWER_SECONDS

    def __post_init__(self) -> None:
        check_above_zero(self, besides="grace_seconds")
        if self.expiry_seconds <= self.heartbeat_seconds:
            raise RegistrationError(
                f"expiry_seconds is {self.expiry_seconds!r}: it must be above heartbeat_seconds,"
                f" which is {self.heartbeat_seconds!r}"
            )


def check_above_zero(given: Timing, besides: str = "") -> None:
    """Refuse a field that is no finite number above zero; ``besides`` may be zero."""
    for field in fields(given):
        value = getattr(given, field.name)
        fits = isinstance(value, (int, float)) and math.isfinite(value)
        if not fits or value < 0 or (value == 0 and field.name != besides):
            raise RegistrationError(f"{field.name} is {value!r}: it must be a number above zero")


class Presence:
    """That a connection is in a room.

    Attributes:
        connection: The connection's id.
        user: Whose it is; ``None`` counts as somebody of its own.
        join_message: What the room is told when the user comes.
        leave_message: What the room is told when the user has gone.
    """

    __slots__ = (
        "announced",
        "connection",
        "join_message",
        "known",
        "leave_message",
        "said",
        "user",
    )

    def __init__(
        self,
        connection: str,
        user: str | None,
        join_message: Publication | None = None,
        leave_message: Publication | None = None,
    ) -> None:
        self.connection = connection
        self.user = user
        self.join_message = join_message
        self.leave_message = leave_message
        self.known = False
        """Whether the engine has it."""
        self.said = False
        """Whether the engine has been told, whatever it has answered."""
        self.announced = False
        """Whether the room has been told, if it had to be."""

    @property
    def key(self) -> str:
        """Whose presence it is: the user's, or of the connection alone."""
        return f"c{self.connection}" if self.user is None else f"u{self.user}"

    @property
    def told(self) -> bool:
        """Whether the room is told that the user comes or goes."""
        return self.join_message is not None or self.leave_message is not None


def users_of(keys: list[str]) -> list[str]:
    """The users among keys of presences."""
    return [key[1:] for key in keys if key.startswith("u")]


class Answer(Generic[T]):
    """A value that is there already, for those who await it."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def __await__(self) -> Generator[None, None, T]:
        return self.value
        yield


class Lease:
    """The right to do something alone, for a time.

    Attributes:
        name: What for.
        token: Higher than any that was given for this name before (a fencing token: Kleppmann, "How to do
            distributed locking").
        expires: Until when, on the event loop's clock.
    """

    __slots__ = ("expires", "name", "token")

    def __init__(self, name: str, token: int, expires: float) -> None:
        self.name = name
        self.token = token
        self.expires = expires


# What a worker that runs once per cluster publishes carries its lease.
LEASE: contextvars.ContextVar[Lease | None] = contextvars.ContextVar("lease", default=None)


class Node(Protocol):
    """What a backend knows of the process that it serves. Nothing here waits or raises."""

    def deliver(self, room: str, entry: Publication) -> None:
        """Give an entry to the members of a room who are here."""

    def deliver_direct(self, entry: Publication) -> None:
        """Give an entry to those whom its address names, or to everybody."""

    def on_history_lost(self, room: str) -> None:
        """Tell the members who are here that something is missing before what comes next."""

    def on_resync(self, room: str) -> None:
        """Tell those who came while the engine was away what they missed, before something is delivered."""


class Backend(ABC):
    """See the module's text for what a backend promises.

    Attributes:
        node_id: Names this process in the cluster; the ids of its connections begin with it.
        timing: How patient it is.
        node: Who is served; set before :meth:`start`.
    """

    node_id: str
    timing: Timing
    node: Node

    @property
    @abstractmethod
    def outage(self) -> str:
        """Why the engine is away, for people; empty when it is not."""

    @property
    def single(self) -> bool:
        """Whether it serves one process only, so that a second one would have rooms of its own."""
        return False

    @abstractmethod
    async def start(self) -> None:
        """Begin. Where the engine is away it goes on trying after ``answer_seconds``, and this returns."""

    @abstractmethod
    async def stop(self) -> None:
        """End, when all connections have ended."""

    @abstractmethod
    def publish(self, room: str, entry: Publication, *, ephemeral: bool = False) -> Awaitable[None]:
        """Say something to a room.

        Args:
            room: Nobody need be in it.
            entry: What.
            ephemeral: It has its place in the order, but no number and no history.

        Raises:
            BackendUnavailable: It may not have arrived.
            LeaseLost: It comes from a worker that another one has replaced.
        """

    @abstractmethod
    def publish_direct(self, entry: Publication) -> Awaitable[int]:
        """Say something to a user, a connection or everybody, wherever they are; at most once.

        Returns:
            How many nodes have got it.

        Raises:
            BackendUnavailable: It may not have arrived.
        """

    @abstractmethod
    async def subscribe(self, room: str, history: History | None) -> None:
        """Be given what is said in a room from now on; each call is taken back by one of ``unsubscribe``.

        It does not raise for an outage: then the room is made up for afterwards.
        """

    @abstractmethod
    def unsubscribe(self, room: str) -> None:
        """Take back one :meth:`subscribe`."""

    @abstractmethod
    def position(self, room: str) -> Position | None:
        """The place of the last entry that this node was given; ``None`` for a room without history."""

    @abstractmethod
    async def recover(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """All that was said after a position up to :meth:`position`, in order; ``None`` where that is not there.

        Args:
            room: Somebody of this node needs it.
            since: Positions in several rooms; that of this room is known by its epoch.

        Between this return and what the caller does next without waiting, nothing is delivered.

        Raises:
            BackendUnavailable: The engine is away: :meth:`Node.on_resync` is called when :meth:`recover_local` knows.
        """

    @abstractmethod
    def recover_local(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """The same of what this process knows by itself."""

    @abstractmethod
    def enter(self, room: str, presence: Presence) -> Awaitable[bool]:
        """A connection is in the room now; whether it is the user's first. It does not raise for an outage."""

    @abstractmethod
    def leave(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """A connection is not in the room any more; whether the user has gone with it.

        It counts from the call on, whether or not somebody awaits the answer, and does not raise for an outage.

        Args:
            room: Where.
            presence: What :meth:`enter` was given.
            grace: Where the room is told of users, one has gone only after ``grace_seconds`` without coming
                back; then the answer is ``False``.
        """

    @abstractmethod
    async def present(self, room: str, user: str) -> bool:
        """Whether a user is in a room."""

    @abstractmethod
    async def members(self, room: str) -> list[str]:
        """The users in a room, each once, in the order in which they came."""

    @abstractmethod
    async def rooms(self, prefix: str) -> list[str]:
        """The names of all rooms that begin so and have somebody in them, sorted.

        Raises:
            BackendUnavailable: The engine is away.
        """

    @abstractmethod
    async def acquire(self, name: str) -> Lease | float:
        """A lease, or in how many seconds to ask again.

        Raises:
            BackendUnavailable: The engine is away.
        """

    @abstractmethod
    async def renew(self, lease: Lease) -> bool:
        """Hold a lease for longer; whether it is still held.

        Raises:
            BackendUnavailable: The engine is away.
        """

    @abstractmethod
    async def release(self, lease: Lease) -> None:
        """Give a lease back, where it is still held."""

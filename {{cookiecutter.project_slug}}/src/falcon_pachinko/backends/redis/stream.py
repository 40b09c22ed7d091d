"""The order of a room's publications on one node: no gap, or a known one (not the stream in Redis)."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterable

from ...history import History, Position
from ...publication import RETRACTED, Publication
from ..buffer import HistoryBudget, HistoryBuffer
from .changes import ChangeRecorder
from .fetched import Fetched

# The maximum number and size of live publications that wait for a gap to be filled; further ones are fetched.
MAX_PENDING = 10_000
MAX_PENDING_BYTES = 4 * 1024 * 1024


class StreamState(enum.Enum):
    """Whether live publications can be delivered.

    ::

        STARTING   -- the first fetch ------------------------------> LIVE
        LIVE       -- an offset is missing -------------------------> GAP
        GAP        -- the last fetch -------------------------------> LIVE
        LIVE       -- an outage ------------------------------------> UNVERIFIED
        UNVERIFIED -- the same position in Redis -------------------> LIVE
        UNVERIFIED -- an offset is missing, or a later position ----> GAP

    An outage leaves STARTING and GAP as they are: their publications are fetched after it.
    """

    # The position is unknown: live publications are pending.
    STARTING = enum.auto()
    # The next publication is delivered at once.
    LIVE = enum.auto()
    # Like LIVE, but the last publications before an outage may be missing.
    UNVERIFIED = enum.auto()
    # Publications are missing: live ones are pending until these have been fetched.
    GAP = enum.auto()


class RoomStream:
    """The publications of a room on their way from Redis or Valkey to the members.

    Live publications arrive with the offsets that Redis has assigned. If an offset is missing, they are
    pending until the gap has been filled.

    Attributes:
        state: See :class:`StreamState`.
        subscriptions: The number of subscriptions on this node.
        history: The history that the members declare.
        position: The position of the last delivered publication.
        shows_positions: Whether clients get positions.
        needs_resync: Whether a client joined during an outage and still needs the missed publications.
        starting: The task that subscribes to the room.
        syncing: The number of tasks that fill the gap.
        buffer: The last publications, kept only while clients reconnect.
        loading: The task that loads the buffer.
        loading_failed: Whether the last one has failed.
        recorded: The publications delivered while the buffer is loaded, with their times.
        recorders: Record the joins and leaves while lists of members are read.

    Args:
        deliver: Called with publications in their order.
        on_history_lost: Called if a gap cannot be filled; the stream continues from :attr:`position`.
        clock: Returns the time in seconds; monotonic.
        budget: The bound of the buffers of all rooms.
    """

    __slots__ = (
        "budget",
        "buffer",
        "buffer_was_used",
        "clock",
        "deliver",
        "history",
        "loading",
        "loading_failed",
        "needs_resync",
        "on_history_lost",
        "pending",
        "pending_bytes",
        "position",
        "recorded",
        "recorders",
        "shows_positions",
        "starting",
        "state",
        "subscriptions",
        "syncing",
    )

    def __init__(
        self,
        deliver: Callable[[Publication], None],
        on_history_lost: Callable[[], None],
        clock: Callable[[], float],
        budget: HistoryBudget | None = None,
    ) -> None:
        self.budget = budget or HistoryBudget()
        self.deliver = deliver
        self.on_history_lost = on_history_lost
        self.clock = clock
        self.state = StreamState.STARTING
        self.subscriptions = 0
        self.history: History | None = None
        self.position: Position | None = None
        self.shows_positions = False
        self.needs_resync = False
        self.pending: list[Publication] = []
        self.pending_bytes = 0
        self.starting: asyncio.Task[None] | None = None
        self.buffer: HistoryBuffer | None = None
        self.buffer_was_used = False
        self.loading: asyncio.Task[None] | None = None
        self.loading_failed = False
        self.syncing = 0
        self.recorded: list[tuple[float, Publication]] | None = None
        self.recorders: list[ChangeRecorder] = []

    @property
    def has_gap(self) -> bool:
        """Whether publications have to be fetched."""
        return self.state is StreamState.STARTING or self.state is StreamState.GAP

    def receive(self, publication: Publication) -> bool:
        """Accept a live publication; return whether it reveals a gap that has to be fetched."""
        if self.has_gap:
            if len(self.pending) < MAX_PENDING and self.pending_bytes < MAX_PENDING_BYTES:
                self.pending.append(publication)
                self.pending_bytes += publication.size_bytes
            return False
        return not self.deliver_next(publication)

    def deliver_next(self, publication: Publication) -> bool:
        """Deliver a publication unless it is a duplicate; return ``False`` if there is a gap before it."""
        position, last = publication.position, self.position
        if position is not None:
            if last is None or position.epoch != last.epoch or position.offset > last.offset + 1:
                self.expect_gap()
                self.pending.append(publication)
                self.pending_bytes += publication.size_bytes
                return False
            if position.offset <= last.offset:
                return True
            self.position = position
            if self.buffer is not None:
                self.buffer.add(publication, self.clock())
            if self.recorded is not None:
                self.recorded.append((self.clock(), publication))
        self.deliver(publication)
        for recorder in self.recorders:
            recorder.add(publication)
        return True

    def pass_retracted(self, publication: Publication, published_at: float) -> None:
        """Advance beyond a publication that was retracted before it could be delivered here."""
        last, position = self.position, publication.position
        if last is None or position is None or position != (last.epoch, last.offset + 1):
            return
        self.position = position
        if self.buffer is not None:
            self.buffer.add(publication, published_at)
        if self.recorded is not None:
            self.recorded.append((published_at, publication))

    def fill_gap(self, fetched: Fetched) -> bool:
        """Deliver fetched publications, then the pending ones; return whether there is no gap now.

        Args:
            fetched: The publications that Redis still has after :attr:`position`, or all of another epoch.
        """
        until, publications = fetched.until, fetched.publications
        last, self.shows_positions = self.position, fetched.shows_positions
        for publication in self.pending:
            # NOTE: the room may have been created by a publisher that does not know about the history.
            if publication.position is not None:
                published_ms = publication.published_ms
                publication.number(
                    publication.position, published_ms, shown=fetched.shows_positions
                )
        if last is not None and (
            last.epoch != until.epoch or len(publications) < until.offset - last.offset
        ):
            publications = self.complete(fetched)
        first = Position(until.epoch, until.offset - len(publications))
        if last is None:
            self.position = until
        elif last.epoch != until.epoch or first.offset > last.offset:
            # NOTE: members are notified of the loss before they get the rest.
            self.drop_buffer()
            if self.recorded is not None:
                self.recorded.clear()
            self.position = first
            self.on_history_lost()
        self.state = StreamState.LIVE
        if last is not None:
            for published_at, publication in publications:
                if publication.header is RETRACTED:
                    self.pass_retracted(publication, published_at)
                else:
                    self.deliver_next(publication)
        self.break_recorders()
        self.state = StreamState.GAP if fetched.more else StreamState.LIVE
        pending, self.pending, self.pending_bytes = self.pending, [], 0
        for publication in pending:
            # NOTE: publications of an earlier epoch are not part of the history any more.
            if publication.position is not None and publication.position.epoch != until.epoch:
                continue
            if self.has_gap:
                self.receive(publication)
            else:
                self.deliver_next(publication)
        return not self.has_gap

    def complete(self, fetched: Fetched) -> list[tuple[float, Publication]]:
        """Add pending publications that Redis has not stored; return the last ones without a gap."""
        until, now, found = fetched.until, self.clock(), {}
        for publication in self.pending:
            position = publication.position
            if position is not None and position.epoch == until.epoch:
                found[position.offset] = (now, publication)
        for published_at, publication in fetched.publications:
            if publication.position is not None:
                found[publication.position.offset] = (published_at, publication)
        complete = []
        for offset in range(until.offset, 0, -1):
            if offset not in found:
                break
            complete.append(found[offset])
        return complete[::-1]

    def break_recorders(self) -> None:
        """Let the lists of members that are being read be read again: changes of them may be missing."""
        for recorder in self.recorders:
            recorder.break_off()

    def expect_gap(self) -> None:
        """Let live publications be pending until the missing ones have been fetched."""
        if self.state is not StreamState.STARTING:
            self.state = StreamState.GAP

    def verify(self, position: Position) -> None:
        """Record that Redis has reported a position: with the same one here, nothing is missing."""
        if self.state is StreamState.UNVERIFIED and self.position == position:
            self.state = StreamState.LIVE

    def end_live(self) -> None:
        """Drop the pending publications at an outage: a later fetch returns those that still exist."""
        self.pending.clear()
        self.pending_bytes = 0
        if self.state is StreamState.LIVE:
            self.state = StreamState.UNVERIFIED

    def has_passed(self, position: Position) -> bool:
        """Return whether a position of the current epoch has been delivered."""
        last = self.position
        return last is not None and last.epoch == position.epoch and position.offset <= last.offset

    def is_behind(self, position: Position) -> bool:
        """Return whether a position of the current epoch has not been delivered yet."""
        last = self.position
        return last is not None and last.epoch == position.epoch and position.offset > last.offset

    def expire_buffer(self) -> None:
        """Drop the buffer if it was not used since the last call, otherwise its old messages; called periodically."""
        if not self.buffer_was_used:
            self.drop_buffer()
        elif self.buffer is not None:
            self.buffer.expire(self.clock())
        self.buffer_was_used = False

    def drop_buffer(self) -> None:
        """Free the buffer."""
        if self.buffer is not None:
            self.buffer.clear()
            self.buffer = None

    def start_buffer(
        self, history: History, publications: Iterable[tuple[float, Publication]]
    ) -> None:
        """Keep the last publications from now on.

        Args:
            history: The bounds.
            publications: Publications that end at :attr:`position`, with their times.
        """
        self.drop_buffer()
        self.buffer = HistoryBuffer(history, self.budget)
        self.buffer_was_used = True
        for published_at, publication in publications:
            self.buffer.add(publication, published_at)

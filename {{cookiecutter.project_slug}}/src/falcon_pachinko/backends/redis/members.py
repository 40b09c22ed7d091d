"""Lists of the members of a room that agree with what the node delivers."""

from __future__ import annotations

import asyncio

from ...errors import BackendUnavailable
from ...history import Position
from ...presence import ChangeKind, MemberChange, MemberPage, Records, not_a_member
from ..presence import in_order, page_of
from . import operations
from .changes import ChangeRecorder
from .operations import Page, Terms
from .pipeline import Pipeline
from .presence import PresenceTable
from .script import hash_tag
from .stream import RoomStream

# How often a list is read again because of a gap in the room's stream.
MAX_READS = 3

# The maximum number of users that one operation reads.
USERS_PER_READ = 1_000

NO_RECORDS: Records = {}


class SharedRead:
    """A page that is being read, for one or more callers.

    Attributes:
        task: Reads it.
        readers: The number of callers that have not used the result yet.
    """

    task: asyncio.Task[list[Page]]

    def __init__(self) -> None:
        self.readers = 0
        self.recording: tuple[RoomStream, ChangeRecorder] | None = None

    @property
    def changes(self) -> list[tuple[int, MemberChange]]:
        """The changes of members that were delivered on this node since the start."""
        return [] if self.recording is None else self.recording[1].changes

    def record(self, stream: RoomStream, position: Position) -> ChangeRecorder:
        """Record the changes of members from now on."""
        recorder = ChangeRecorder(position)
        stream.recorders.append(recorder)
        self.recording = (stream, recorder)
        return recorder

    def agrees(self, pages: list[Page]) -> bool:
        """Return whether all changes since a page was read have been recorded, or nothing is delivered here."""
        return self.recording is None or self.recording[1].is_complete(pages[-1].position)

    def stop_recording(self) -> None:
        """End it."""
        if self.recording is not None:
            stream, recorder = self.recording
            stream.recorders.remove(recorder)
            self.recording = None


def merge(
    pages: list[Page], limit: int | None, changes: list[tuple[int, MemberChange]]
) -> MemberPage:
    """Return a list as of the last publication delivered on this node.

    Args:
        pages: The parts of the list, each as of its position.
        limit: The maximum number of users.
        changes: The changes of members that were delivered meanwhile.
    """
    users: dict[str, Records] = {}
    last = pages[-1]
    for page in pages:
        later = [change for at, change in changes if at > page.position.offset]
        left = {change.user for change in later if change.kind is ChangeKind.LEFT}
        updated = {each.user: each.records for each in later if each.kind is ChangeKind.UPDATED}
        for _, name in page.users:
            if name not in left:
                users[name] = updated.get(name, page.records.get(name, NO_RECORDS))
    total = last.total
    for at, (_, user, kind, records) in changes:
        if at <= last.position.offset or user is None:
            continue
        if kind is ChangeKind.LEFT:
            total -= 1
            users.pop(user, None)
        elif kind is ChangeKind.JOINED:
            total += 1
            if not last.more and (limit is None or len(users) < limit):
                users[user] = records
        elif user in users:
            users[user] = records
    cursor = last.users[-1][0] if last.more else None
    return MemberPage(list(users), total, cursor, in_order(users, users))


class MemberLists:
    """Reads the lists of members.

    Attributes:
        outdated: The rooms whose members were those of this node only, because Redis was unavailable.

    Args:
        pipeline: Executes operations.
        terms: The node.
        streams: The streams of the rooms to which the node has subscribed.
        presence: The connections of this node, which are the list during an outage.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        terms: Terms,
        streams: dict[str, RoomStream],
        presence: PresenceTable,
    ) -> None:
        self.pipeline = pipeline
        self.terms = terms
        self.streams = streams
        self.presence = presence
        self.outdated: set[str] = set()
        self.reads: dict[tuple[str, int | str | None, int | None], SharedRead] = {}

    async def present(self, room: str, user: str) -> bool:
        """Return whether a user is in a room; during an outage, on this node."""
        if not self.pipeline.outage:
            try:
                return await self.pipeline.call(operations.present(hash_tag(room), f"u{user}"))
            except BackendUnavailable:
                pass
        return any(presence.user == user for presence in self.presence.connections_in(room))

    def take_outdated(self) -> set[str]:
        """Return :attr:`outdated`, and empty it."""
        rooms, self.outdated = self.outdated, set()
        return rooms

    def end_sharing(self, room: str) -> None:
        """Let later callers read a room's list again: one that is being read may be from before a change."""
        for key in [key for key in self.reads if key[0] == room]:
            del self.reads[key]

    async def occupancy(self, room: str) -> int:
        """Return the number of users in a room; during an outage, those of this node."""
        return (await self.page(room, None, 0)).total

    async def page(self, room: str, after: int | str | None, limit: int | None) -> MemberPage:
        """Return a page of the users in a room; during an outage, of those of this node.

        Callers that ask at the same time share one read; see :meth:`end_sharing`.
        """
        if not self.pipeline.outage:
            try:
                return await self._shared_page(room, after, limit)
            except BackendUnavailable:
                pass
        self.outdated.add(room)
        local: dict[str, None] = {}
        records: dict[str, dict[str, bytes]] = {}
        for presence in self.presence.connections_in(room):
            local[presence.key] = None
            if presence.user is not None and presence.record is not None:
                records.setdefault(presence.user, {})[presence.connection] = presence.record
        return page_of(room, enumerate(local, 1), after, limit, records)

    async def _shared_page(
        self, room: str, after: int | str | None, limit: int | None
    ) -> MemberPage:
        """Read a page, or wait for the read in progress of the same one; read it again if changes are missing."""
        key, attempts = (room, after, limit), 0
        while True:
            shared = self.reads.get(key)
            if shared is None or shared.task.done():
                shared = self.reads[key] = SharedRead()
                shared.task = asyncio.get_running_loop().create_task(self._read(shared, *key))
            shared.readers += 1
            attempts += 1
            try:
                pages = await asyncio.shield(shared.task)
                if shared.agrees(pages) or attempts == MAX_READS:
                    return merge(pages, limit, shared.changes)
            finally:
                shared.readers -= 1
                if self.reads.get(key) is shared and (shared.task.done() or not shared.readers):
                    del self.reads[key]
                if not shared.readers:
                    shared.task.cancel()
                    shared.stop_recording()

    async def _read(
        self, shared: SharedRead, room: str, after: int | str | None, limit: int | None
    ) -> list[Page]:
        """Read a page, and wait until the publications that it contains have been delivered here."""
        stream = self.streams.get(room)
        if stream is None or stream.position is None:
            return await self._read_pages(room, after, limit)
        recorder = shared.record(stream, stream.position)
        pages = await self._read_pages(room, after, limit)
        await recorder.wait_reached(pages[-1].position, self.pipeline.client.answer_seconds)
        return pages

    async def _read_pages(
        self, room: str, after: int | str | None, limit: int | None
    ) -> list[Page]:
        """Read a page, in parts that do not block Redis."""
        pages: list[Page] = []
        rest = limit
        while True:
            size = USERS_PER_READ if rest is None else min(rest, USERS_PER_READ)
            page = await self._read_page(room, after, size)
            pages.append(page)
            if rest is not None:
                rest -= len(page.users)
            if not page.more or (rest is not None and rest <= 0):
                return pages
            after = page.users[-1][0]

    async def _read_page(self, room: str, after: int | str | None, size: int) -> Page:
        operation = operations.page(
            hash_tag(room),
            self.terms,
            after,
            size,
            node=self.presence.witness_in(room),
        )
        try:
            while (page := await self.pipeline.call(operation)) is None:
                pass
        except LookupError:
            raise not_a_member(room, str(after)) from None
        self.presence.begin_recovery(room, page.recovery)
        return page

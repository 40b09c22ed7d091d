"""The recorder of joins and leaves: what was delivered while a list is read."""

import asyncio

from falcon_pachinko.backends.redis.changes import ChangeRecorder
from falcon_pachinko.history import Position
from falcon_pachinko.presence import ChangeKind, MemberChange

from ...support.backends import WAIT_SECONDS, text

ALICE = MemberChange("room", "alice", ChangeKind.JOINED)


def record(
    recorder: ChangeRecorder, offset: int, change: MemberChange | None = None, epoch: str = "e"
) -> None:
    publication = text("")
    publication.number(Position(epoch, offset), 7, shown=True)
    publication.change = change
    recorder.add(publication)


def test_changes_are_recorded_with_their_offsets() -> None:
    recorder = ChangeRecorder(Position("e", 4))
    record(recorder, 5, ALICE)
    record(recorder, 6)
    recorder.add(text("ephemeral"))
    record(recorder, 7, ALICE._replace(kind=ChangeKind.LEFT))
    assert recorder.changes == [(5, ALICE), (7, ALICE._replace(kind=ChangeKind.LEFT))]
    assert recorder.position == Position("e", 7)


async def test_a_position_that_is_reached_needs_no_wait() -> None:
    recorder = ChangeRecorder(Position("e", 4))
    assert await recorder.wait_reached(Position("e", 4), 0.0)
    assert not await recorder.wait_reached(Position("other", 4), WAIT_SECONDS)
    assert not await recorder.wait_reached(Position("e", 5), 0.0)


async def test_the_wait_ends_with_the_publication_at_the_position() -> None:
    recorder = ChangeRecorder(Position("e", 4))
    waiting = asyncio.create_task(recorder.wait_reached(Position("e", 6), WAIT_SECONDS))
    await asyncio.sleep(0)
    record(recorder, 5)
    await asyncio.sleep(0)
    assert not waiting.done()
    record(recorder, 6)
    assert await waiting


async def test_the_wait_ends_when_changes_are_missing() -> None:
    recorder = ChangeRecorder(Position("e", 4))
    waiting = asyncio.create_task(recorder.wait_reached(Position("e", 6), WAIT_SECONDS))
    await asyncio.sleep(0)
    recorder.break_off()
    assert not await waiting
    assert not await recorder.wait_reached(Position("e", 4), 0.0)

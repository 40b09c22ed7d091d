"""The contract of histories, verified in memory and over Redis: the last publications, and pages of earlier ones."""

import pytest

from falcon_pachinko.history import History, Position
from falcon_pachinko.publication import Header, Publication

from ..support.backends import HISTORY, RecordingNode, text, wait_for_result, wait_until

pytestmark = pytest.mark.redis


async def publish(node: RecordingNode, count: int, first: int = 1) -> Position:
    """Publish the numbers from one on, and return the position of the last one."""
    for number in range(first, first + count):
        position = await node.backend.publish_nowait("room", text(str(number)))
    assert position is not None
    return position


async def delivered(position: Position, *nodes: RecordingNode) -> None:
    """Wait until nodes have delivered all publications up to a position."""
    await wait_until(lambda: all(node.backend.position("room") == position for node in nodes))


def offsets(publications: list[Publication]) -> list[int]:
    """Return the offsets, after a check that each message is that of its offset."""
    found = []
    for each in publications:
        assert each.position is not None
        assert each.published_ms is not None
        assert each.data == str(each.position.offset).encode()
        assert each.shows_position
        found.append(each.position.offset)
    return found


async def test_the_last_publications_end_at_the_position(
    a: RecordingNode, b: RecordingNode
) -> None:
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", HISTORY)
        assert await node.backend.recent("room", 5) == []
        assert node.backend.recent_local("room", 5) == []
    await delivered(await publish(a, 12), b)
    for count, first in ((3, 10), (10, 3), (50, 3)):
        found = await b.backend.recent("room", count)
        assert offsets(found) == list(range(first, 13))
        assert found == b.backend.recent_local("room", count)
    await delivered(await publish(a, 1, first=13), b)
    assert offsets(await b.backend.recent("room", 2)) == [12, 13]


async def test_pages_lead_to_the_oldest_publication(a: RecordingNode, b: RecordingNode) -> None:
    await a.backend.subscribe("room", History(messages=250, seconds=60.0))
    assert await b.backend.past("room", None, 5) == []
    await publish(a, 260)
    for size in (7, 100, 120):
        before, found = None, list[int]()
        while page := await b.backend.past("room", before, size):
            assert len(page) == min(size, 250 - len(found))
            before = page[0].position
            found = offsets(page) + found
        assert found == list(range(11, 261))
    assert len(await b.backend.past("room", None, 1_000)) == 250


async def test_a_page_before_a_position_that_is_not_in_the_history(
    a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    current = await publish(a, 3)
    for position, found in (
        (Position("another", 2), []),
        (current._replace(offset=0), []),
        (current._replace(offset=1), []),
        (current._replace(offset=10**60), [1, 2, 3]),
    ):
        assert offsets(await b.backend.past("room", position, 10)) == found


async def test_a_room_without_history_has_no_past(a: RecordingNode, b: RecordingNode) -> None:
    await a.backend.subscribe("room", None)
    await a.backend.publish_nowait("room", text("1"))
    assert await b.backend.past("room", None, 10) == []
    assert await a.backend.recent("room", 10) == []


async def test_publications_that_are_too_old_are_left_out(
    a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", History(messages=10, seconds=0.2))
    await publish(a, 2)
    nothing: list[Publication] = []
    await wait_for_result(lambda: b.backend.past("room", None, 10), nothing)
    assert await a.backend.recent("room", 10) == []


async def retract(node: RecordingNode, last: Position, offset: int) -> Position:
    """Publish the next number after a position, and retract an offset with it; return its position."""
    publication = text(str(last.offset + 1))
    publication.header = Header(retracts=(str(last._replace(offset=offset)), "another:1", "7"))
    position = await node.backend.publish_nowait("room", publication)
    assert position is not None
    return position


async def test_what_was_retracted_is_gone_and_is_no_gap(a: RecordingNode, b: RecordingNode) -> None:
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", HISTORY)
    start = await publish(a, 4)
    await delivered(start, a, b)
    # NOTE: one node keeps the messages, the other one reads them when they are needed.
    assert offsets(await a.backend.recent("room", 10)) == [1, 2, 3, 4]
    last = start
    for offset in (2, 4, 4):
        last = await retract(a, last, offset)
    await delivered(last, a, b)
    for node in (a, b):
        assert offsets(await node.backend.recent("room", 10)) == [1, 3, 5, 6, 7]
        assert offsets(await node.backend.recent("room", 4)) == [3, 5, 6, 7]
        assert offsets(await node.backend.past("room", None, 4)) == [3, 5, 6, 7]
        assert offsets(await node.backend.past("room", start._replace(offset=5), 2)) == [1, 3]
        for since, found in ((1, [3, 5, 6, 7]), (3, [5, 6, 7]), (4, [5, 6, 7]), (6, [7])):
            missed = await node.backend.recover("room", [start._replace(offset=since)])
            assert missed is not None
            assert offsets(missed) == found
        assert not node.history_losses


async def test_the_only_publications_can_be_retracted(a: RecordingNode, b: RecordingNode) -> None:
    await a.backend.subscribe("room", HISTORY)
    last = await publish(a, 3)
    for offset in (1, 2, 3, 4):
        last = await retract(a, last, offset)
    await delivered(last, a)
    assert offsets(await a.backend.recent("room", 10)) == [5, 6, 7]
    assert offsets(await b.backend.past("room", None, 10)) == [5, 6, 7]


async def test_the_bounds_hold_after_retractions(a: RecordingNode, b: RecordingNode) -> None:
    await a.backend.subscribe("room", History(messages=100, seconds=60.0, room_bytes=20_000))
    start = await a.backend.publish_nowait("room", text(f"{1:1000}"))
    assert start is not None
    retracted = set[int]()
    for number in range(2, 101):
        publication = text(f"{number:1000}")
        if number % 3 == 0:
            offsets = {number - 1, max(1, number - 5), max(1, number - 40)}
            positions = [str(start._replace(offset=offset)) for offset in offsets]
            publication.header = Header(retracts=tuple(positions))
            retracted |= offsets
        await a.backend.publish_nowait("room", publication)
    page = await b.backend.past("room", None, 100)
    kept = [number for number in range(1, 101) if number not in retracted]
    assert 5 <= len(page) <= 20
    assert [int(each.data) for each in page] == kept[-len(page) :]

"""The fetcher: pieces of missed publications, few rooms at the same time."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from falcon_pachinko.backends.redis.client import Request
from falcon_pachinko.backends.redis.fetching import MAX_CONCURRENT_FETCHES
from falcon_pachinko.backends.redis.script import BYTES_PER_PIECE
from falcon_pachinko.history import Position

from ...support.backends import HISTORY, RecordingNode, text, wait_until

pytestmark = pytest.mark.redis


async def prepare(node: RecordingNode, room: str = "room") -> Position:
    """Publish more than one piece in a room; return the position before."""
    await node.backend.subscribe(room, HISTORY)
    start = node.backend.position(room)
    assert start is not None
    for number in range(5):
        await node.backend.publish_nowait(room, text(f"{number}" + "x" * (BYTES_PER_PIECE // 3)))
    await wait_until(lambda: len(node.texts(room)) == 5)
    return start


async def test_missed_publications_are_fetched_in_pieces(a: RecordingNode) -> None:
    start = await prepare(a)
    fetcher, stream = a.redis.subscriptions.fetcher, a.redis.subscriptions.streams["room"]
    piece = await fetcher.fetch("room", stream, start)
    assert piece.more
    assert 0 < len(piece.publications) < 5
    assert piece.until == start._replace(offset=start.offset + len(piece.publications))
    everything = await fetcher.fetch_all("room", stream, start)
    assert not everything.more
    assert [publication.data[:1] for _, publication in everything.publications] == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
    ]


async def test_only_the_pieces_of_the_new_epoch_are_returned_if_it_changes_meanwhile(
    a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = await prepare(a)
    fetcher, stream = a.redis.subscriptions.fetcher, a.redis.subscriptions.streams["room"]
    fetch, epochs = fetcher.fetch, ["old", "new", "new"]

    async def fetch_in_another_epoch(*args: Any, **kwargs: Any) -> Any:
        fetched = await fetch("room", stream, start)
        return fetched._replace(until=Position(epochs.pop(0), 1), more=bool(epochs))

    monkeypatch.setattr(fetcher, "fetch", fetch_in_another_epoch)
    fetched = await fetcher.fetch_all("room", stream, start)
    pieces = 2  # without the one of the old epoch
    piece = await fetch("room", stream, start)
    assert fetched.until.epoch == "new"
    assert len(fetched.publications) == pieces * len(piece.publications)


async def test_a_few_rooms_are_fetched_at_the_same_time(
    a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = [f"room{number}" for number in range(3 * MAX_CONCURRENT_FETCHES)]
    starts = [await prepare(a, room) for room in rooms]
    fetcher, streams = a.redis.subscriptions.fetcher, a.redis.subscriptions.streams
    execute, counts = a.redis.client.execute, list[int]()

    async def count(requests: Sequence[Request]) -> list[object]:
        counts.append(sum(request[0] == "sync_room" for request in requests))
        return await execute(requests)

    monkeypatch.setattr(a.redis.client, "execute", count)
    fetched = await asyncio.gather(
        *[
            fetcher.fetch_all(room, streams[room], start)
            for room, start in zip(rooms, starts, strict=True)
        ]
    )
    assert all(len(each.publications) == 5 for each in fetched)
    assert max(counts) == MAX_CONCURRENT_FETCHES
    counts.clear()
    await asyncio.gather(*[fetcher.fetch(room, streams[room], None) for room in rooms])
    assert max(counts) > MAX_CONCURRENT_FETCHES, "a position is small: it does not wait"

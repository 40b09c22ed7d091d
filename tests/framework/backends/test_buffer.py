"""The history buffer: complete answers within its bounds, or none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.backends.buffer import (
    MAX_RESTORED_BYTES,
    MESSAGE_OVERHEAD_BYTES,
    ROOM_OVERHEAD_BYTES,
    HistoryBudget,
    HistoryBuffer,
    check_bytes,
)
from falcon_pachinko.errors import ConfigurationError
from falcon_pachinko.history import History, Position
from falcon_pachinko.publication import BINARY, DEFAULT_HEADER, Header, Publication


def filled(count: int, history: History, first: int = 1) -> HistoryBuffer:
    """Create a buffer with publications from an offset on, published at the time of their offset."""
    buffer = HistoryBuffer(history)
    for offset in range(first, first + count):
        publication = Publication.of_encoded(str(offset).encode())
        publication.number(Position("e", offset), 7, shown=True)
        buffer.add(publication, float(offset))
    return buffer


@given(
    bound=st.integers(1, 10),
    count=st.integers(0, 20),
    since=st.integers(0, 25),
)
def test_it_returns_all_missed_publications_or_none(bound: int, count: int, since: int) -> None:
    buffer = filled(count, History(messages=bound, seconds=1000.0))
    missed = buffer.between(Position("e", since), Position("e", count), float(count))
    expected = [Position("e", offset) for offset in range(since + 1, count + 1)]
    if since > count or len(expected) > min(bound, count):
        assert missed is None
    else:
        assert missed is not None
        assert [publication.position for publication in missed] == expected


def test_it_returns_none_if_it_does_not_end_at_the_current_position() -> None:
    buffer = filled(3, History())
    assert buffer.between(Position("e", 2), Position("e", 4), 4.0) is None
    assert buffer.between(Position("other", 1), Position("other", 3), 4.0) is None


def test_it_returns_none_if_a_publication_is_too_old() -> None:
    buffer = filled(3, History(seconds=10.0))
    until = Position("e", 3)
    assert len(buffer.between(Position("e", 1), until, 12.0) or ()) == 2
    assert buffer.between(Position("e", 1), until, 12.1) is None
    assert len(buffer.between(Position("e", 2), until, 12.1) or ()) == 1


def test_expired_publications_are_dropped() -> None:
    buffer = filled(3, History(seconds=10.0))
    buffer.expire(12.5)
    assert [encoded for _, _, encoded in buffer.messages] == [b"\n3"]
    buffer.expire(13.5)
    assert not buffer.messages
    assert buffer.budget.size_bytes == 0


def add(buffer: HistoryBuffer, size_bytes: int, header: Header = DEFAULT_HEADER) -> Position:
    """Add the next publication, of a size, and return its position."""
    position = Position("e", buffer.last.offset + 1 if buffer.last else 1)
    publication = Publication.of_encoded(b"x" * size_bytes, header=header)
    publication.number(position, 7, shown=True)
    buffer.add(publication, 0.0)
    return position


def kept(buffer: HistoryBuffer) -> int:
    """Return the number of messages that a client can recover."""
    assert buffer.last is not None
    last = buffer.last.offset
    counts = [
        since
        for since in range(last + 1)
        if buffer.between(Position("e", since), buffer.last, 0.0) is not None
    ]
    return last - min(counts)


def test_the_oldest_are_dropped_above_the_bytes_of_a_room() -> None:
    buffer = HistoryBuffer(History(room_bytes=1000))
    for _ in range(50):
        add(buffer, 300)
    assert kept(buffer) == 3
    add(buffer, 999)
    assert kept(buffer) == 1
    add(buffer, 1)
    assert kept(buffer) == 1


def test_a_message_above_the_bytes_of_a_room_is_not_kept() -> None:
    buffer = HistoryBuffer(History(room_bytes=1000))
    add(buffer, 10)
    add(buffer, 1000)
    assert kept(buffer) == 0
    assert buffer.budget.size_bytes == 0
    add(buffer, 10)
    assert kept(buffer) == 1


def test_a_header_is_kept_and_counts() -> None:
    header = Header(binary=True, exclude_users=("ä" * 100,))
    buffer = HistoryBuffer(History(room_bytes=500))
    until = add(buffer, 10, header)
    [publication] = buffer.between(Position("e", 0), until, 0.0) or []
    assert (publication.header, publication.opcode) == (header, BINARY)
    assert (publication.data, publication.position) == (b"x" * 10, until)
    add(buffer, 10, header)
    assert kept(buffer) == 2
    add(buffer, 10, header)
    assert kept(buffer) == 2


def test_a_recovered_message_is_the_one_that_was_delivered() -> None:
    buffer = HistoryBuffer(History())
    delivered = Publication({"type": "a", "payload": {"b": 1}})
    delivered.number(Position("e", 1), 7, shown=True)
    buffer.add(delivered, 0.0)
    [recovered] = buffer.between(Position("e", 0), Position("e", 1), 0.0) or []
    for name in (
        "data",
        "body",
        "size_bytes",
        "opcode",
        "header",
        "position",
        "published_ms",
        "shows_position",
    ):
        assert getattr(recovered, name) == getattr(delivered, name), name
    assert recovered.make_frame() == delivered.make_frame()


def test_clients_that_reconnect_together_share_messages_within_a_bound() -> None:
    buffer = HistoryBuffer(History(messages=1000, room_bytes=10_000_000))
    for _ in range(1000):
        until = add(buffer, 100)
    first = buffer.between(Position("e", 900), until, 0.0)
    again = buffer.between(Position("e", 900), until, 0.0)
    assert first is not None
    assert again is not None
    assert all(one is other for one, other in zip(first, again, strict=True))
    for _ in range(1000):
        until = add(buffer, 9_000)
    for since in range(1000, 2000, 10):
        assert buffer.between(Position("e", since), until, 0.0) is not None
        kept_bytes = sum(each.size_bytes for each in buffer.budget.restored.get("e", {}).values())
        assert kept_bytes <= MAX_RESTORED_BYTES


@pytest.mark.parametrize("count", [1, 50, 4_000])
def test_many_retracted_messages_are_skipped(count: int) -> None:
    buffer = filled(200, History(messages=5_000, seconds=10_000.0))
    for offset in range(201, 4_000):
        publication = Publication.of_encoded(b"x", header=Header(retracts=(f"e:{offset - 1}",)))
        publication.number(Position("e", offset), 7, shown=True)
        buffer.add(publication, float(offset))
    end = Position("e", 3_999)
    found = buffer.before(end, count, 4_000.0)
    expected = list(range(1, 200))[-count:]
    assert [each.position for each in found] == [Position("e", offset) for offset in expected]


def test_a_gap_drops_what_is_before_it() -> None:
    buffer = filled(3, History())
    publication = Publication.of_encoded(b"5")
    publication.number(Position("e", 5), 7, shown=True)
    buffer.add(publication, 5.0)
    assert kept(buffer) == 1


def test_above_the_budget_the_oldest_messages_of_the_largest_history_are_dropped() -> None:
    emptied: list[str] = []
    budget = HistoryBudget(100_000, emptied.append)
    small = HistoryBuffer(History(), budget, "small")
    large = HistoryBuffer(History(), budget, "large")
    for _ in range(10):
        add(small, 1000)
    for _ in range(100):
        add(large, 1000)
    assert budget.size_bytes <= 100_000
    assert kept(small) == 10
    assert 60 <= kept(large) < 90
    others = [HistoryBuffer(History(), budget, str(number)) for number in range(100)]
    for other in others:
        add(other, 1000)
        assert kept(other) in (0, 1)
    assert budget.size_bytes <= 100_000
    assert set(emptied) <= {"small", "large", *map(str, range(100))}
    for buffer in (small, large, *others):
        buffer.clear()
    assert (budget.size_bytes, budget.classes) == (0, {})


@given(st.data())
def test_the_budget_counts_what_is_stored(data: st.DataObject) -> None:
    budget = HistoryBudget(20_000)
    history = History(messages=7, seconds=10.0, room_bytes=5_000)
    buffers = [HistoryBuffer(history, budget, str(number)) for number in range(4)]
    now = 0.0
    for _ in range(data.draw(st.integers(1, 60), "events")):
        buffer = data.draw(st.sampled_from(buffers))
        event = data.draw(st.sampled_from(["add", "add", "add", "expire", "clear"]))
        now += 1.0
        if event == "add":
            size_bytes = data.draw(st.integers(0, 6_000))
            sizes = {each: each.size_bytes for each in buffers}
            last = buffer.last.offset if buffer.last else 0
            publication = Publication.of_encoded(b"x" * size_bytes)
            publication.number(Position("e", last + 1), 7, shown=True)
            buffer.add(publication, now)
            for other in buffers:
                if other is not buffer and other.size_bytes < sizes[other]:
                    # NOTE: of the classes of similar size.
                    assert sizes[other] >= 0.7 * max(sizes.values())
        elif event == "expire":
            buffer.expire(now)
        else:
            buffer.clear()
        stored = 0
        for each in buffers:
            assert each.size_bytes == sum(len(encoded) for _, _, encoded in each.messages)
            assert each.size_bytes <= history.room_bytes
            if each.messages:
                count = len(each.messages)
                stored += each.size_bytes + count * MESSAGE_OVERHEAD_BYTES + ROOM_OVERHEAD_BYTES
        assert budget.size_bytes == stored <= budget.max_bytes


@pytest.mark.parametrize("value", [0, -1, float("nan"), "64"])
def test_a_bound_that_is_not_above_zero_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="history_bytes"):
        check_bytes(value)

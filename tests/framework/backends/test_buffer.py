"""The history buffer: complete answers within its bounds, or none."""

from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.backends.buffer import HistoryBuffer
from falcon_pachinko.history import History, Position
from falcon_pachinko.publication import Publication


def filled(count: int, history: History, first: int = 1) -> HistoryBuffer:
    """Create a buffer with publications from an offset on, published at the time of their offset."""
    buffer = HistoryBuffer(history)
    for offset in range(first, first + count):
        publication = Publication.of_encoded(str(offset).encode())
        publication.number(Position("e", offset), shown=True)
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
    assert [publication.data for _, publication in buffer.publications] == [b"3"]
    buffer.expire(13.5)
    assert not buffer.publications

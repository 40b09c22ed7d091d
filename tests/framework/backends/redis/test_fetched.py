"""The reply to a fetch: positions, times on this process's clock, and the part after a position."""

from falcon_pachinko.backends.redis.fetched import Fetched
from falcon_pachinko.history import Position
from falcon_pachinko.publication import RETRACTED, Publication


def publication(offset: int) -> Publication:
    made = Publication.of_encoded(b"")
    made.number(Position("e", offset), 7, shown=True)
    return made


def test_a_reply_is_decoded_with_the_times_of_this_process() -> None:
    old, new = Publication.of_encoded(b"old"), Publication.of_encoded(b"new")
    flat = [b"1-1", b"9000", old.encode(), b"2-1", b"9500", new.encode()]
    fetched = Fetched.decode([b"e", 2, 1, b"10000", flat, 0, b""], 100.0)
    assert (fetched.until, fetched.shows_positions) == (Position("e", 2), True)
    assert [(at, each.data, each.position) for at, each in fetched.publications] == [
        (99.0, b"old", Position("e", 1)),
        (99.5, b"new", Position("e", 2)),
    ]


def test_a_reply_is_split_at_a_position_of_its_epoch() -> None:
    timed = [(0.0, publication(offset)) for offset in range(1, 5)]
    fetched = Fetched(Position("e", 4), True, timed)
    assert fetched.split(Position("e", 3)) == (timed[:3], fetched._replace(publications=timed[3:]))
    assert fetched.split(Position("other", 3)) == ([], fetched)


def test_retracted_publications_leave_no_gap() -> None:
    flat: list[bytes] = []
    for offset in (4, 5, 8):
        flat += [b"%d-1" % offset, b"9000", Publication.of_encoded(b"text").encode()]
    reply = [b"e", 9, 1, b"10000", flat, 0]
    fetched = Fetched.decode([*reply, b"e 1 3 7 6 9"], 100.0)
    found = [(each.position, each.header is RETRACTED) for _, each in fetched.publications]
    assert found == [
        (Position("e", offset), offset in (3, 6, 7, 9)) for offset in (3, 4, 5, 6, 7, 8, 9)
    ]
    assert {at for at, _ in fetched.publications} == {99.0}
    other = Fetched.decode([*reply, b"another 6 7"], 100.0)
    assert [each.position for _, each in other.publications] == [
        Position("e", offset) for offset in (4, 5, 8)
    ]

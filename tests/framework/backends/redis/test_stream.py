"""How a node hears a room: whatever comes in whatever order, its members get it in order, once, or are told."""

from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.backends.redis.stream import Feed
from falcon_pachinko.history import History, Position
from falcon_pachinko.publication import Publication


class Ears:
    """A feed, with what it has given."""

    def __init__(self) -> None:
        self.given: list[int | str] = []
        self.feed = Feed(self.deliver, self.on_history_lost, lambda: 0.0)

    def deliver(self, entry: Publication) -> None:
        self.given.append(entry.position.offset if entry.position else "typing")

    def on_history_lost(self) -> None:
        self.given.append("lost")


def said(offset: int, epoch: str = "e") -> Publication:
    entry = Publication.of_encoded(b"")
    entry.number(Position(epoch, offset), shown=True)
    return entry


def after(first: int, last: int, epoch: str = "e") -> list[Publication]:
    return [said(offset, epoch) for offset in range(first, last + 1)]


def test_what_comes_before_the_place_is_known_waits() -> None:
    ears = Ears()
    for offset in (3, 4, 5):
        assert ears.feed.hear(said(offset)) is False
    assert ears.feed.fill(Position("e", 3), True, [])
    assert ears.given == [4, 5]


def test_a_gap_is_fetched_and_nothing_comes_twice() -> None:
    ears = Ears()
    ears.feed.fill(Position("e", 0), True, [])
    ears.feed.hear(said(1))
    assert ears.feed.hear(said(4)) is True
    assert ears.feed.hear(Publication.of_encoded(b"typing")) is False
    assert ears.feed.hear(said(5)) is False
    assert ears.feed.fill(Position("e", 4), True, after(2, 4))
    assert ears.given == [1, 2, 3, 4, "typing", 5]
    ears.feed.hear(said(4))
    assert ears.given[-1] == 5


def test_what_was_heard_while_it_was_fetched_is_no_gap() -> None:
    ears = Ears()
    ears.feed.fill(Position("e", 0), True, [])
    for offset in (1, 2, 3):
        ears.feed.hear(said(offset))
    assert ears.feed.fill(Position("e", 2), True, after(1, 2))
    assert ears.given == [1, 2, 3]


def test_of_what_can_not_be_had_any_more_the_members_are_told() -> None:
    ears = Ears()
    ears.feed.fill(Position("e", 0), True, [])
    ears.feed.hear(said(9))
    assert ears.feed.fill(Position("e", 9), True, after(7, 9))
    assert ears.given == ["lost", 7, 8, 9]


def test_a_tail_that_is_fetched_has_no_gap_though_one_is_found_meanwhile() -> None:
    ears = Ears()
    feed = ears.feed
    feed.fill(Position("e", 5), True, [])
    feed.recorded = recorded = list[tuple[float, Publication]]()
    feed.hear(said(6))
    feed.fill(Position("e", 30), True, after(20, 30))
    assert ears.given[:2] == [6, "lost"]
    fetched = [(0.0, entry) for entry in after(1, 5)]
    feed.keep_tail(History(messages=50, seconds=60.0), [*fetched, *recorded])
    assert feed.tail is not None
    for since in range(30):
        missed = feed.tail.between(Position("e", since), Position("e", 30), 0.0)
        places = None if missed is None else [entry.position for entry in missed]
        expected = [Position("e", offset) for offset in range(since + 1, 31)]
        assert places == (expected if since >= 19 else None)


def test_an_epoch_that_is_over_is_forgotten() -> None:
    ears = Ears()
    ears.feed.fill(Position("old", 5), True, [])
    assert ears.feed.hear(said(1, "new")) is True
    ears.feed.hear(said(7, "old"))
    ears.feed.hear(said(2, "new"))
    assert ears.feed.fill(Position("new", 2), True, after(1, 2, "new"))
    assert ears.given == ["lost", 1, 2]


@given(st.data())
def test_in_any_order_of_events_the_members_hear_all_in_order(data: st.DataObject) -> None:
    ears = Ears()
    engine = data.draw(st.integers(0, 3), "said before")
    ears.feed.fill(Position("e", engine), True, [])
    begun = engine
    on_their_way: list[int] = []
    for _ in range(data.draw(st.integers(1, 40), "events")):
        event = data.draw(st.sampled_from(["say", "arrive", "lose", "repeat", "fetch"]))
        if event == "say":
            engine += 1
            on_their_way.append(engine)
        elif event == "arrive" and on_their_way:
            ears.feed.hear(said(on_their_way.pop(0)))
        elif event == "lose" and on_their_way:
            on_their_way.pop(0)
        elif event == "repeat" and engine > begun:
            ears.feed.hear(said(data.draw(st.integers(begun + 1, engine))))
        elif event == "fetch":
            known = ears.feed.position
            assert known is not None
            ears.feed.fill(Position("e", engine), True, after(known.offset + 1, engine))
    known = ears.feed.position
    assert known is not None
    ears.feed.fill(Position("e", engine), True, after(known.offset + 1, engine))
    assert ears.given == list(range(begun + 1, engine + 1))

"""The stream of a room: in any order of events, publications are delivered in order, once, or a loss is reported."""

from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.backends.redis.fetched import Fetched
from falcon_pachinko.backends.redis.stream import MAX_PENDING_BYTES, RoomStream
from falcon_pachinko.history import History, Position
from falcon_pachinko.publication import RETRACTED, Publication


class RecordingStream:
    """A stream that records the offsets of delivered publications, and losses."""

    def __init__(self) -> None:
        self.delivered: list[int | str] = []
        self.stream = RoomStream(self.deliver, self.on_history_lost, lambda: 0.0)

    def deliver(self, publication: Publication) -> None:
        position = publication.position
        self.delivered.append(position.offset if position else "ephemeral")

    def on_history_lost(self) -> None:
        self.delivered.append("lost")

    def fill_gap(self, until: Position, publications: list[Publication]) -> bool:
        return self.stream.fill_gap(Fetched(until, True, [(0.0, each) for each in publications]))


def publication(offset: int, epoch: str = "e") -> Publication:
    made = Publication.of_encoded(b"")
    made.number(Position(epoch, offset), 7, shown=True)
    return made


def publications(first: int, last: int, epoch: str = "e") -> list[Publication]:
    return [publication(offset, epoch) for offset in range(first, last + 1)]


def test_publications_are_pending_until_the_position_is_known() -> None:
    recording = RecordingStream()
    for offset in (3, 4, 5):
        assert recording.stream.receive(publication(offset)) is False
    assert recording.fill_gap(Position("e", 3), [])
    assert recording.delivered == [4, 5]


def test_a_gap_is_fetched_and_duplicates_are_dropped() -> None:
    recording = RecordingStream()
    recording.fill_gap(Position("e", 0), [])
    recording.stream.receive(publication(1))
    assert recording.stream.receive(publication(4)) is True
    assert recording.stream.receive(Publication.of_encoded(b"ephemeral")) is False
    assert recording.stream.receive(publication(5)) is False
    assert recording.fill_gap(Position("e", 4), publications(2, 4))
    assert recording.delivered == [1, 2, 3, 4, "ephemeral", 5]
    recording.stream.receive(publication(4))
    assert recording.delivered[-1] == 5


def test_publications_received_during_a_fetch_are_not_a_gap() -> None:
    recording = RecordingStream()
    recording.fill_gap(Position("e", 0), [])
    for offset in (1, 2, 3):
        recording.stream.receive(publication(offset))
    assert recording.fill_gap(Position("e", 2), publications(1, 2))
    assert recording.delivered == [1, 2, 3]


def test_the_state_follows_fetches_gaps_and_outages() -> None:
    recording = RecordingStream()
    stream, states = recording.stream, []
    stream.end_live()
    stream.expect_gap()
    states.append(stream.state)
    recording.fill_gap(Position("e", 0), [])
    states.append(stream.state)
    stream.end_live()
    stream.verify(Position("e", 1))
    states.append(stream.state)
    stream.verify(Position("e", 0))
    states.append(stream.state)
    stream.end_live()
    stream.receive(publication(2))
    states.append(stream.state)
    stream.end_live()
    states.append(stream.state)
    stream.fill_gap(Fetched(Position("e", 1), True, [(0.0, publication(1))], more=True))
    states.append(stream.state)
    recording.fill_gap(Position("e", 2), publications(2, 2))
    states.append(stream.state)
    expected = ["STARTING", "LIVE", "UNVERIFIED", "LIVE", "GAP", "GAP", "GAP", "LIVE"]
    assert [state.name for state in states] == expected
    assert recording.delivered == [1, 2]


def test_a_gap_that_cannot_be_filled_is_reported() -> None:
    recording = RecordingStream()
    recording.fill_gap(Position("e", 0), [])
    recording.stream.receive(publication(9))
    assert recording.fill_gap(Position("e", 9), publications(7, 9))
    assert recording.delivered == ["lost", 7, 8, 9]


def test_received_publications_that_are_not_stored_are_delivered_after_a_gap() -> None:
    recording = RecordingStream()
    recording.fill_gap(Position("e", 0), [])
    recording.stream.receive(publication(3))
    recording.stream.receive(publication(4))
    assert recording.fill_gap(Position("e", 4), [])
    assert recording.delivered == ["lost", 3, 4]
    recording.stream.receive(publication(6))
    recording.stream.receive(publication(8))
    assert recording.fill_gap(Position("e", 8), publications(7, 7))
    assert recording.delivered == ["lost", 3, 4, "lost", 6, 7, 8]


def test_publications_of_a_room_that_a_publisher_has_created_get_their_positions() -> None:
    recording = RecordingStream()
    recording.fill_gap(Position("e", 3), [])
    first = Publication.of_encoded(b"{}")
    first.number(Position("new", 1), 7, shown=False)
    assert recording.stream.receive(first) is True
    assert recording.fill_gap(Position("new", 1), [])
    assert recording.delivered == ["lost", 1]
    assert first.shows_position


def test_publications_that_wait_for_a_gap_are_bounded_in_bytes() -> None:
    recording = RecordingStream()
    recording.fill_gap(Position("e", 0), [])
    for offset in range(2, 102):
        large = Publication.of_encoded(b"x" * 1024 * 1024)
        large.number(Position("e", offset), 7, shown=True)
        recording.stream.receive(large)
    assert sum(each.size_bytes for each in recording.stream.pending) <= MAX_PENDING_BYTES + 2**20
    assert recording.fill_gap(Position("e", 101), publications(1, 101))
    assert recording.delivered == list(range(1, 102))
    assert recording.stream.pending_bytes == 0


def test_the_publication_that_reveals_a_gap_counts_as_pending() -> None:
    recording = RecordingStream()
    recording.fill_gap(Position("e", 0), [])
    for offset, pending_bytes in ((2, 1000), (3, 2000)):
        large = Publication.of_encoded(b"x" * 1000)
        large.number(Position("e", offset), 7, shown=True)
        recording.stream.receive(large)
        assert recording.stream.pending_bytes == pending_bytes
    assert recording.fill_gap(Position("e", 2), publications(1, 1))
    assert recording.delivered == [1, 2, 3]
    assert recording.stream.pending_bytes == 0


def test_a_buffer_loaded_during_a_gap_has_no_gap() -> None:
    recording = RecordingStream()
    stream = recording.stream
    recording.fill_gap(Position("e", 5), [])
    stream.recorded = recorded = list[tuple[float, Publication]]()
    stream.receive(publication(6))
    recording.fill_gap(Position("e", 30), publications(20, 30))
    assert recording.delivered[:2] == [6, "lost"]
    fetched = [(0.0, each) for each in publications(1, 5)]
    stream.start_buffer(History(messages=50, seconds=60.0), [*fetched, *recorded])
    assert stream.buffer is not None
    for since in range(30):
        missed = stream.buffer.between(Position("e", since), Position("e", 30), 0.0)
        positions = None if missed is None else [each.position for each in missed]
        expected = [Position("e", offset) for offset in range(since + 1, 31)]
        assert positions == (expected if since >= 19 else None)


def test_publications_of_an_earlier_epoch_are_dropped() -> None:
    recording = RecordingStream()
    recording.fill_gap(Position("old", 5), [])
    assert recording.stream.receive(publication(1, "new")) is True
    recording.stream.receive(publication(7, "old"))
    recording.stream.receive(publication(2, "new"))
    assert recording.fill_gap(Position("new", 2), publications(1, 2, "new"))
    assert recording.delivered == ["lost", 1, 2]


def test_an_unused_buffer_is_dropped() -> None:
    recording = RecordingStream()
    stream = recording.stream
    recording.fill_gap(Position("e", 5), [])
    stream.start_buffer(History(), [])
    stream.expire_buffer()
    assert stream.buffer is not None
    stream.expire_buffer()
    assert stream.buffer is None


@given(st.data())
def test_in_any_order_of_events_publications_are_delivered_in_order(data: st.DataObject) -> None:
    recording = RecordingStream()
    offset = data.draw(st.integers(0, 3), "published before")
    recording.fill_gap(Position("e", offset), [])
    start = offset
    in_flight: list[int] = []
    for _ in range(data.draw(st.integers(1, 40), "events")):
        event = data.draw(st.sampled_from(["publish", "arrive", "lose", "repeat", "fetch"]))
        if event == "publish":
            offset += 1
            in_flight.append(offset)
        elif event == "arrive" and in_flight:
            recording.stream.receive(publication(in_flight.pop(0)))
        elif event == "lose" and in_flight:
            in_flight.pop(0)
        elif event == "repeat" and offset > start:
            recording.stream.receive(publication(data.draw(st.integers(start + 1, offset))))
        elif event == "fetch":
            known = recording.stream.position
            assert known is not None
            recording.fill_gap(Position("e", offset), publications(known.offset + 1, offset))
    known = recording.stream.position
    assert known is not None
    recording.fill_gap(Position("e", offset), publications(known.offset + 1, offset))
    assert recording.delivered == list(range(start + 1, offset + 1))


def test_retracted_publications_are_no_gap_and_are_not_delivered() -> None:
    recording = RecordingStream()
    recording.fill_gap(Position("e", 1), [])
    recording.stream.start_buffer(History(), [])
    assert recording.stream.receive(publication(5)) is True
    missed = publications(2, 5)
    for index in (0, 2):
        missed[index].header = RETRACTED
    assert recording.fill_gap(Position("e", 5), missed)
    assert recording.delivered == [3, 5]
    buffer = recording.stream.buffer
    assert buffer is not None
    found = buffer.between(Position("e", 1), Position("e", 5), 0.0)
    assert found is not None
    assert [each.position for each in found] == [Position("e", 3), Position("e", 5)]

"""Messages of one loop iteration are delivered in order, in few writes."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.connection.inbox import Event
from falcon_pachinko.publication import Publication
from falcon_pachinko.uvicorn import write_batch
from falcon_pachinko.uvicorn.outbox import PushGroup, PushOutbox
from falcon_pachinko.uvicorn.write_batch import MAX_JOINED_BYTES, WriteBatch, join_frames


class Transport:
    """Records its writes; a ``broken`` transport fails instead."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.broken = False

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError("the handle is closed")
        self.writes.append(data)

    def is_closing(self) -> bool:
        return False

    def texts(self) -> list[str]:
        """Return the texts of all frames."""
        data, texts = b"".join(self.writes), []
        while data:
            size = data[1]
            texts.append(data[2 : 2 + size].decode())
            data = data[2 + size :]
        return texts


class Clients:
    """Clients on one event loop, whose iteration is ended by the test."""

    def __init__(self, count: int) -> None:
        loop: Any = asyncio.new_event_loop()
        loop.close()
        loop.call_soon = lambda callback: None
        self.batch = WriteBatch(loop)
        self.transports = [Transport() for _ in range(count)]
        self.failures: list[list[Exception]] = [[] for _ in range(count)]
        self.outboxes = []
        for transport, failures in zip(self.transports, self.failures, strict=True):
            outbox = PushOutbox(loop, transport, self.send, failures.append)  # type: ignore[arg-type]
            outbox.batch = self.batch
            self.outboxes.append(outbox)

    def send(self, event: Event) -> Awaitable[None]:
        raise AssertionError("no event is sent")

    def group(self, *members: int) -> PushGroup:
        return PushGroup(tuple(self.outboxes[member] for member in members))


def texts(*values: object) -> list[Publication]:
    return [Publication.of_text(str(value)) for value in values]


def test_messages_to_one_room_are_joined_to_one_write_per_member() -> None:
    clients = Clients(3)
    room = clients.group(0, 1, 2)
    for outgoing in texts(*range(8)):
        clients.batch.add(room, outgoing)
    assert clients.transports[0].writes == []
    clients.batch.flush()
    first, *others = [transport.writes for transport in clients.transports]
    assert len(first) == 1
    assert all(writes[0] is first[0] for writes in others), "joined more than once"


def test_direct_answers_do_not_split_the_writes() -> None:
    clients = Clients(3)
    room = clients.group(0, 1, 2)
    for number in range(4):
        said, answer = texts(f"said {number}", f"answer {number}")
        clients.batch.add(room, said)
        clients.outboxes[0].write(answer)
    clients.batch.flush()
    assert [len(transport.writes) for transport in clients.transports] == [1, 1, 1]
    assert clients.transports[0].texts() == [
        f"{word} {number}" for number in range(4) for word in ("said", "answer")
    ]


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_broken_transport_does_not_affect_others(broken: int) -> None:
    clients = Clients(3)
    room = clients.group(0, 1, 2)
    clients.transports[broken].broken = True
    (outgoing,) = texts("hello")
    clients.batch.add(room, outgoing)
    clients.batch.flush()
    for number in range(3):
        assert len(clients.failures[number]) == (number == broken)
        assert clients.transports[number].texts() == ([] if number == broken else ["hello"])


def test_large_batch_is_written_before_the_end_of_the_iteration() -> None:
    clients = Clients(1)
    for outgoing in texts(*["x" * 100] * 1000):
        clients.batch.add(clients.outboxes[0], outgoing)
    assert clients.transports[0].writes
    assert max(map(len, clients.transports[0].writes)) <= MAX_JOINED_BYTES + 102


def counted_joins(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the number of messages of each join of several is appended."""
    joins: list[int] = []

    def join_and_count(messages: list[Publication]) -> bytes:
        if len(messages) > 1:
            joins.append(len(messages))
        return join_frames(messages)

    monkeypatch.setattr(write_batch, "join_frames", join_and_count)
    return joins


def test_rooms_that_take_turns_share_the_joined_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    joins = counted_joins(monkeypatch)
    clients = Clients(6)
    rooms = [clients.group(0, 1, 2), clients.group(3, 4, 5)]
    for number, outgoing in enumerate(texts(*range(8))):
        clients.batch.add(rooms[number % 2], outgoing)
    clients.batch.flush()
    assert joins == [4, 4]
    for number, transport in enumerate(clients.transports):
        assert transport.texts() == [str(each) for each in range(8) if each % 2 == number // 3]
        assert len(transport.writes) == 1


def test_members_share_the_joined_bytes_although_senders_are_excluded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joins = counted_joins(monkeypatch)
    clients = Clients(6)
    room = clients.group(*range(6))
    for number, outgoing in enumerate(texts(*range(3))):
        clients.batch.add(room, outgoing, [clients.outboxes[number]])
    clients.batch.flush()
    assert joins == [3, 2, 2, 2]
    for number, transport in enumerate(clients.transports):
        assert transport.texts() == [str(each) for each in range(3) if each != number]
        assert len(transport.writes) == 1
    assert clients.transports[3].writes[0] is clients.transports[5].writes[0]


def test_members_of_two_rooms_that_take_turns_share_the_joined_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joins = counted_joins(monkeypatch)
    clients = Clients(4)
    rooms = [clients.group(0, 1, 2), clients.group(1, 2, 3)]
    for number, outgoing in enumerate(texts(*range(4))):
        clients.batch.add(rooms[number % 2], outgoing)
    clients.batch.flush()
    assert sorted(joins) == [2, 2, 4]
    assert clients.transports[1].texts() == ["0", "1", "2", "3"]
    assert clients.transports[1].writes[0] is clients.transports[2].writes[0]


@pytest.mark.parametrize("excluded", [(1,), (0, 2), (0, 1, 2, 3), (3,)])
@pytest.mark.parametrize("waiting", [None, 1, 2])
def test_a_single_message_is_not_joined_for_members_beside_an_excluded_one(
    monkeypatch: pytest.MonkeyPatch, excluded: tuple[int, ...], waiting: int | None
) -> None:
    joins = counted_joins(monkeypatch)
    clients = Clients(4)
    room = clients.group(0, 1, 2)
    if waiting is not None:
        clients.outboxes[waiting].pause()
    (outgoing,) = texts("hello")
    clients.batch.add(room, outgoing, [clients.outboxes[each] for each in excluded])
    clients.batch.flush()
    if waiting is not None:
        clients.outboxes[waiting].resume()
    assert joins == []
    for number, transport in enumerate(clients.transports):
        receives = number < 3 and number not in excluded
        assert transport.texts() == (["hello"] if receives else [])


def test_a_broken_transport_beside_an_excluded_one_does_not_affect_others() -> None:
    for broken in range(4):
        for excluded in ([1], [1, 2]):
            clients = Clients(4)
            clients.transports[broken].broken = True
            (outgoing,) = texts("hello")
            clients.batch.add(
                clients.group(0, 1, 2, 3), outgoing, [clients.outboxes[e] for e in excluded]
            )
            clients.batch.flush()
            for number in range(4):
                receives = number not in excluded
                assert len(clients.failures[number]) == (receives and number == broken)
                assert clients.transports[number].texts() == ["hello"] * (
                    receives and number != broken
                )


def test_an_outbox_of_another_kind_may_be_excluded() -> None:
    """Those of a room on several kinds of servers are one list."""
    clients = Clients(2)
    (outgoing,) = texts("hello")
    clients.batch.add(clients.group(0, 1), outgoing, [object(), clients.outboxes[1]])
    clients.batch.flush()
    assert [transport.texts() for transport in clients.transports] == [["hello"], []]


def test_without_messages_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = Clients(1)
    monkeypatch.setattr(write_batch, "write_joined", None)
    clients.batch.flush()
    assert clients.transports[0].writes == []


POSTS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 3), st.sampled_from(["all", "some", "others"])),
        st.sets(st.integers(0, 3), max_size=2),
        st.sampled_from(["nothing", "pause 0", "resume 0", "pause 2", "resume 2", "end"]),
    ),
    max_size=30,
)


@given(posts=POSTS)
def test_every_client_gets_its_messages_in_the_order_of_posting(posts: list[Any]) -> None:
    clients = Clients(4)
    groups = {
        "all": clients.group(0, 1, 2, 3),
        "some": clients.group(0, 1),
        "others": clients.group(1, 2, 3),
    }
    expected: list[list[str]] = [[] for _ in range(4)]
    for number, (target, excluded, event) in enumerate(posts):
        (outgoing,) = texts(number)
        if isinstance(target, int):
            clients.outboxes[target].write(outgoing)
            expected[target].append(str(number))
        else:
            clients.batch.add(
                groups[target], outgoing, [clients.outboxes[member] for member in excluded]
            )
            for member, outbox in enumerate(clients.outboxes):
                if outbox in groups[target].outboxes and member not in excluded:
                    expected[member].append(str(number))
        match event.split():
            case ["pause", member]:
                clients.outboxes[int(member)].pause()
            case ["resume", member]:
                clients.outboxes[int(member)].resume()
            case ["end"]:
                clients.batch.flush()
    clients.batch.flush()
    for outbox in clients.outboxes:
        outbox.resume()
    assert [transport.texts() for transport in clients.transports] == expected
    assert clients.failures == [[], [], [], []]

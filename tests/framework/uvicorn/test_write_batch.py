"""Messages of one loop iteration are delivered in order, in few writes."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.connection.inbox import Event
from falcon_pachinko.publication import Publication
from falcon_pachinko.uvicorn.outbox import PushGroup, PushOutbox
from falcon_pachinko.uvicorn.write_batch import MAX_JOINED_BYTES, WriteBatch


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

"""The contract of backends, shown of each of them: memory, and Redis or Valkey in every form with two nodes."""

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Iterator
from typing import NoReturn

import pytest

from falcon_pachinko.backends.base import Lease, Presence
from falcon_pachinko.history import History, Position
from falcon_pachinko.publication import Header, Publication

from ..support.backends import (
    HISTORY,
    Nodes,
    Recorder,
    cluster,
    running_cluster,
    running_with_tls,
    text,
    until,
    until_answer,
    watched_by_sentinel,
)
from ..support.redis_servers import ENGINES, find_engine, running_engine

pytestmark = pytest.mark.engine

BACKENDS = ["memory", *ENGINES, "socket", "tls", "cluster", "sentinel"]


def leave_out(reason: str) -> NoReturn:
    """Skip what the machine lacks something for; fail where it has to have it."""
    if os.environ.get("REQUIRE_ENGINES"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module", params=BACKENDS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the engine is; empty for memory."""
    with contextlib.ExitStack() as stack:
        if request.param == "memory":
            yield ""
        elif request.param == "cluster":
            yield stack.enter_context(running_cluster())
        elif request.param == "tls":
            try:
                yield stack.enter_context(running_with_tls())
            except FileNotFoundError as error:
                leave_out(str(error))
        elif request.param in ENGINES:
            if find_engine(request.param) is None:
                leave_out(f"{request.param} is not installed")
            yield stack.enter_context(running_engine(request.param)).url
        else:
            engine = stack.enter_context(running_engine())
            if request.param == "socket":
                yield engine.socket_url
            else:
                yield stack.enter_context(watched_by_sentinel(engine))


@pytest.fixture
async def nodes(url: str) -> AsyncIterator[Nodes]:
    async with cluster(url) as nodes:
        yield nodes


@pytest.fixture
async def a(nodes: Nodes) -> Recorder:
    return await nodes.start()


@pytest.fixture
async def b(a: Recorder, nodes: Nodes) -> Recorder:
    """Another node; with the memory backend the same one."""
    return await nodes.start()


def alice(connection: str, *, told: bool = True) -> Presence:
    joined, left = (text("alice came"), text("alice went")) if told else (None, None)
    return Presence(connection, "alice", joined, left)


async def test_all_nodes_deliver_a_room_in_one_order(a: Recorder, b: Recorder) -> None:
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", HISTORY)
    said = [(a if n % 2 else b).backend.publish("room", text(str(n))) for n in range(50)]
    for one in said:
        await one
    await until(lambda: len(a.said("room")) == len(b.said("room")) == 50)
    assert a.said("room") == b.said("room")
    assert sorted(a.said("room"), key=int) == [str(n) for n in range(50)]
    positions = a.positions("room")
    assert positions == b.positions("room")
    assert [p.offset for p in positions if p] == list(range(1, 51))
    assert len({p.epoch for p in positions if p}) == 1
    assert a.backend.position("room") == positions[-1]


async def test_one_node_s_words_keep_their_order(a: Recorder, b: Recorder) -> None:
    await b.backend.subscribe("room", None)
    told = [a.backend.publish("room", text(str(n)), ephemeral=n % 3 == 0) for n in range(600)]
    for each in told:
        await each
    await until(lambda: len(b.said("room")) == 600)
    assert b.said("room") == [str(n) for n in range(600)]


async def test_rooms_are_apart_and_any_name_will_do(a: Recorder, b: Recorder) -> None:
    names = [
        "a",
        "A",
        "a:m",
        "{a}",
        "}",
        "{}",
        "%7B",
        "nodes",
        "{%nodes}:all",
        "ä 💬",
        "a b",
        "x" * 200,
    ]
    for name in names:
        await b.backend.subscribe(name, HISTORY)
    for name in names:
        await a.backend.publish(name, text(name))
    await until(lambda: len(b.entries) == len(names))
    for name in names:
        assert b.said(name) == [name]


async def test_what_is_said_is_carried_as_it_is(a: Recorder, b: Recorder) -> None:
    await b.backend.subscribe("room", None)
    everything = bytes(range(256)) * 100
    address = Header(
        binary=True, exclude_connections=("c1", "c2"), exclude_users=("a\nb", "ü"), close_code=4000
    )
    await a.backend.publish("room", Publication.of_encoded(everything, header=address))
    await until(lambda: len(b.entries) == 1)
    [(_, entry)] = b.entries
    assert entry.data == everything
    assert entry.header == address
    assert not entry.is_for("c1", None)
    assert not entry.is_for("c9", "a\nb")
    assert entry.is_for("c9", None)


async def test_nobody_is_given_a_room_that_is_closed(a: Recorder, b: Recorder) -> None:
    await b.backend.subscribe("room", None)
    await b.backend.subscribe("room", None)
    b.backend.unsubscribe("room")
    await a.backend.publish("room", text("one"))
    await until(lambda: b.said("room") == ["one"])
    b.backend.unsubscribe("room")
    await b.backend.subscribe("other", None)
    await a.backend.publish("other", text("marker"))
    await until(lambda: b.said("other") == ["marker"])
    assert b.backend.position("room") is None


async def test_a_room_can_be_left_and_joined_at_once(a: Recorder, b: Recorder) -> None:
    for number in range(50):
        await b.backend.subscribe("room", HISTORY)
        await a.backend.publish("room", text(str(number)))
        await until(functools.partial(b.has_said, "room", str(number)))
        b.backend.unsubscribe("room")
    assert b.said("room") == [str(number) for number in range(50)]


async def test_a_direct_word_reaches_all_nodes(a: Recorder, b: Recorder) -> None:
    address = Header(user="alice")
    assert await a.backend.publish_direct(text("hi", address)) == len({id(a), id(b)})
    await until(lambda: len(a.direct) == len(b.direct) == 1)
    assert a.direct[0].data == b.direct[0].data == b"hi"
    assert a.direct[0].header == b.direct[0].header == address


# History.


async def test_what_was_missed_is_given_in_order(a: Recorder, b: Recorder) -> None:
    await a.backend.subscribe("room", HISTORY)
    begun = a.backend.position("room")
    assert begun is not None
    for number in range(10):
        await a.backend.publish("room", text(str(number)))
    await b.backend.subscribe("room", HISTORY)
    for since in range(10):
        missed = await b.backend.recover("room", [Position(begun.epoch, since)])
        assert missed is not None
        assert [entry.data.decode() for entry in missed] == [str(n) for n in range(since, 10)]
        assert [entry.position for entry in missed] == [
            Position(begun.epoch, n) for n in range(since + 1, 11)
        ]
    assert await b.backend.recover("room", [Position(begun.epoch, 10)]) == []


@pytest.mark.parametrize(
    "since", [Position("", 0), Position("0123456789abcdef", 3), Position("", 10**30)]
)
async def test_of_a_position_that_nobody_knows_nothing_is_given(
    a: Recorder, since: Position
) -> None:
    await a.backend.subscribe("room", HISTORY)
    await a.backend.publish("room", text("something"))
    await until(lambda: len(a.entries) == 1)
    assert await a.backend.recover("room", [since]) is None


async def test_what_is_not_kept_is_never_given_in_part(a: Recorder, b: Recorder) -> None:
    await a.backend.subscribe("room", HISTORY)
    begun = a.backend.position("room")
    assert begun is not None
    for number in range(12):
        await a.backend.publish("room", text(str(number)))
    await b.backend.subscribe("room", HISTORY)
    assert await b.backend.recover("room", [begun]) is None  # 12 are more than 10
    assert await b.backend.recover("room", [Position(begun.epoch, 1)]) is None
    assert len(await b.backend.recover("room", [Position(begun.epoch, 2)]) or ()) == 10
    assert await b.backend.recover("room", [Position(begun.epoch, 13)]) is None  # not yet


async def test_what_is_too_old_is_not_given(a: Recorder) -> None:
    await a.backend.subscribe("room", History(messages=10, seconds=0.05))
    begun = a.backend.position("room")
    assert begun is not None
    await a.backend.publish("room", text("old"))
    await until(lambda: len(a.entries) == 1)
    await until_answer(lambda: a.backend.recover("room", [begun]), None)
    assert await a.backend.recover("room", [Position(begun.epoch, 1)]) == []


async def test_a_room_without_history_has_no_positions(a: Recorder, b: Recorder) -> None:
    await a.backend.subscribe("room", None)
    await b.backend.publish("room", text("one"))
    await until(lambda: len(a.entries) == 1)
    assert a.backend.position("room") is None
    assert not a.entries[0][1].shows_position


async def test_an_ephemeral_word_is_heard_and_not_kept(a: Recorder, b: Recorder) -> None:
    await b.backend.subscribe("room", HISTORY)
    begun = b.backend.position("room")
    assert begun is not None
    for words, ephemeral in (("one", False), ("typing", True), ("two", False)):
        await a.backend.publish("room", text(words), ephemeral=ephemeral)
    await until(lambda: len(b.entries) == 3)
    assert b.said("room") == ["one", "typing", "two"]
    assert [entry.shows_position for _, entry in b.entries] == [True, False, True]
    missed = await b.backend.recover("room", [begun])
    assert [entry.data for entry in missed or ()] == [b"one", b"two"]


async def test_history_outlives_the_last_member_for_its_time(a: Recorder, b: Recorder) -> None:
    await a.backend.subscribe("room", HISTORY)
    begun = a.backend.position("room")
    assert begun is not None
    await a.backend.publish("room", text("one"))
    a.backend.unsubscribe("room")
    await b.backend.publish("room", text("two"))
    await b.backend.subscribe("room", HISTORY)
    missed = await b.backend.recover("room", [begun])
    assert [entry.data for entry in missed or ()] == [b"one", b"two"]


async def test_those_who_come_back_together_are_all_given_the_same(
    a: Recorder, b: Recorder
) -> None:
    await b.backend.subscribe("room", HISTORY)
    begun = b.backend.position("room")
    assert begun is not None
    said = 0
    for _ in range(5):
        await a.backend.publish("room", text(str(said)))
        said += 1

    async def come_back() -> None:
        missed = await b.backend.recover("room", [begun])
        now = b.backend.position("room")
        assert missed is not None
        assert now is not None
        assert [entry.data.decode() for entry in missed] == [str(n) for n in range(now.offset)]

    await until(lambda: len(b.entries) == 5)
    coming = [asyncio.create_task(come_back()) for _ in range(100)]
    for _ in range(4):
        await a.backend.publish("room", text(str(said)))
        said += 1
    await asyncio.gather(*coming)
    await come_back()


# Presence.


async def test_the_first_and_the_last_connection_of_a_user_are_edges(
    a: Recorder, b: Recorder
) -> None:
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", None)
    one, two = alice("c1"), alice("c2")
    assert await a.backend.enter("room", one) is True
    assert await a.backend.enter("room", one) is False
    assert await b.backend.enter("room", two) is False
    assert await a.backend.members("room") == await b.backend.members("room") == ["alice"]
    assert await a.backend.leave("room", one, grace=False) is False
    assert await a.backend.leave("room", one, grace=False) is False
    assert await b.backend.present("room", "alice")
    assert await b.backend.leave("room", two, grace=False) is True
    assert await b.backend.leave("room", two, grace=False) is False
    assert not await a.backend.present("room", "alice")
    assert await a.backend.members("room") == []
    await until(lambda: len(a.said("room")) == len(b.said("room")) == 2)
    assert a.said("room") == ["alice came", "alice went"]


async def test_who_comes_back_in_time_has_not_gone(a: Recorder, b: Recorder) -> None:
    await a.backend.subscribe("room", None)
    await b.backend.subscribe("room", None)
    await a.backend.enter("room", alice("c1"))
    assert await a.backend.leave("room", alice("c1"), grace=True) is False
    assert await b.backend.members("room") == ["alice"]
    assert await b.backend.enter("room", alice("c2")) is False
    assert await b.backend.leave("room", alice("c2"), grace=True) is False
    await until(lambda: "alice went" in a.said("room"))
    assert a.said("room") == ["alice came", "alice went"]
    assert await a.backend.members("room") == []


async def test_of_whom_nobody_is_told_there_is_no_time_of_grace(a: Recorder) -> None:
    await a.backend.subscribe("room", None)
    await a.backend.enter("room", alice("c1", told=False))
    assert await a.backend.leave("room", alice("c1", told=False), grace=True) is True
    assert await a.backend.members("room") == []


async def test_members_come_in_the_order_in_which_they_came(a: Recorder, b: Recorder) -> None:
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", None)
    users = [f"user {number}" for number in range(20, 0, -1)]
    for number, user in enumerate(users):
        node = a if number % 2 else b
        await node.backend.enter("room", Presence(f"c{number}", user))
    await a.backend.enter("room", Presence("nobody", None))
    await a.backend.enter("room", Presence("again", users[3]))
    assert await a.backend.members("room") == await b.backend.members("room") == users


async def test_who_has_no_name_is_somebody_of_its_own(a: Recorder) -> None:
    await a.backend.subscribe("room", None)
    one, two = Presence("c1", None, text("came")), Presence("c2", None, text("came"))
    assert await a.backend.enter("room", one) is True
    assert await a.backend.enter("room", two) is True
    assert await a.backend.leave("room", two, grace=False) is True
    assert await a.backend.members("room") == []
    assert await a.backend.rooms("") == ["room"]


async def test_rooms_are_those_with_somebody_in_them(a: Recorder, b: Recorder) -> None:
    for node, room in ((a, "chat:a"), (b, "chat:b"), (b, "other")):
        await node.backend.subscribe(room, None)
        await node.backend.enter(room, Presence(room, "alice"))
    await a.backend.subscribe("chat:empty", None)
    assert await a.backend.rooms("chat:") == await b.backend.rooms("chat:") == ["chat:a", "chat:b"]
    assert await a.backend.rooms("") == ["chat:a", "chat:b", "other"]
    await b.backend.leave("chat:b", Presence("chat:b", "alice"), grace=False)
    await until_answer(lambda: a.backend.rooms("chat:"), ["chat:a"])


# Leases.


async def test_a_lease_is_held_by_one_and_given_on_with_a_higher_token(
    a: Recorder, b: Recorder
) -> None:
    lease = await a.backend.acquire("work")
    assert isinstance(lease, Lease)
    if a is not b:
        wait_seconds = await b.backend.acquire("work")
        assert isinstance(wait_seconds, float)
        assert 0 < wait_seconds <= b.backend.timing.expiry_seconds
    assert await a.backend.renew(lease)
    await a.backend.release(lease)

    async def acquire() -> bool:
        again = await b.backend.acquire("work")
        return isinstance(again, Lease) and again.token > lease.token

    await until_answer(acquire, True)
    if a is not b:
        assert not await a.backend.renew(lease)

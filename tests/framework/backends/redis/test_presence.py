"""Presence over Redis: joins and leaves, outages, crashed nodes; the invariant P2: presence is a lease."""

import asyncio
from collections.abc import Sequence

import pytest

from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.client import Request
from falcon_pachinko.backends.redis.script import ENTRIES_PER_SLICE

from ...support.backends import (
    HISTORY,
    TIMING,
    Nodes,
    RecordingNode,
    announced,
    disconnected,
    text,
    wait_available,
    wait_for_result,
    wait_until,
)
from ...support.redis_servers import RedisServer
from .faults import each_server, lose, lose_reply
from .room import MACHINE_SECONDS, join, marked, subscribe

pytestmark = pytest.mark.redis


async def test_a_leave_without_a_reply_takes_effect_once(
    redis_server: RedisServer,
    nodes: Nodes,
    a: RecordingNode,
    b: RecordingNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))

    async def lose_nodes() -> None:
        lose(redis_server, nodes, "{%nodes}:*")

    lose_reply(a.redis.client, monkeypatch, "leave", lose_nodes)
    await a.backend.leave_nowait("room", announced("c1", "alice"), grace=True)
    await wait_available(a)
    nobody: list[str] = []
    await wait_for_result(lambda: b.backend.members("room"), nobody)
    await marked(b)
    assert b.texts("room") == ["alice joined", "alice left", "marker"]


async def test_a_user_who_leaves_joins_and_leaves_at_once_leaves_after_the_grace_period(
    a: RecordingNode, b: RecordingNode
) -> None:
    await subscribe(a, b)
    alice = await join(a, "c1", "alice")
    operations_at_once = [
        a.backend.leave_nowait("room", alice, grace=False),
        a.backend.enter_nowait("room", announced("c1", "alice")),
        a.backend.leave_nowait("room", alice, grace=True),
    ]
    assert await asyncio.gather(*operations_at_once) == [True, True, False]
    await wait_until(lambda: b.texts("room").count("alice left") == 2)
    assert await b.backend.members("room") == []


async def test_a_user_who_left_during_an_outage_leaves_with_the_node(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    backend = a.redis
    async with disconnected(a):
        await backend.leave_nowait("room", announced("c1", "alice"), grace=True)
    await wait_until(lambda: "ualice" in backend.presence.rooms["room"].ending)
    await nodes.crash(a)
    nobody: list[str] = []
    await wait_for_result(lambda: b.backend.members("room"), nobody)
    await marked(b)
    assert b.texts("room") == ["alice joined", "alice left", "marker"]


async def test_joins_and_leaves_during_an_outage_are_completed_after_it(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    await wait_until(lambda: b.got_last("room", "alice joined"))
    redis_server.pause()
    try:
        await wait_until(lambda: bool(a.backend.outage and b.backend.outage))
        bob = announced("c2", "bob")
        assert await b.backend.enter_nowait("room", bob) is True
        assert await a.backend.leave_nowait("room", announced("c1", "alice"), grace=False) is True
    finally:
        redis_server.resume()
    await wait_until(
        lambda: {"bob joined", "alice left"} <= {*a.texts("room")} & {*b.texts("room")}
    )
    await wait_available(a, b)
    assert await a.backend.members("room") == ["bob"]
    for node in (a, b):
        assert node.texts("room").count("alice left") == 1
        assert node.texts("room").count("bob joined") == 1


async def test_one_node_announces_that_the_users_of_a_crashed_node_left(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    c = await nodes.start()
    for node in (a, b, c):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    await a.backend.enter_nowait("room", announced("c2", "bob"))
    await b.backend.enter_nowait("room", announced("c3", "bob"))
    await nodes.crash(a)
    await wait_until(lambda: b.got_last("room", "alice left") and c.got_last("room", "alice left"))
    assert await c.backend.members("room") == ["bob"]
    await c.backend.enter_nowait("room", announced("c4", "carol"))
    await wait_for_result(lambda: c.backend.rooms(""), ["room"])
    await b.backend.publish_nowait("room", text("marker"))
    await wait_until(lambda: c.got_last("room", "marker"))
    assert c.texts("room").count("alice left") == 1
    assert "bob left" not in c.texts("room")


async def test_the_last_message_of_a_node_after_its_last_member_is_delivered(
    a: RecordingNode, b: RecordingNode
) -> None:
    await subscribe(a, b)
    alice = await join(a, "c1", "alice")
    leaving = a.backend.leave_nowait("room", alice, grace=False)
    await a.backend.publish_nowait("room", text("bye"))
    assert await leaving is True
    await wait_until(lambda: b.got_last("room", "bye"))


async def test_the_lease_ends_with_users_whose_grace_periods_end_together(
    nodes: Nodes, a: RecordingNode
) -> None:
    await subscribe(a)
    users = [await join(a, f"c{number}", f"user {number}") for number in range(5)]
    for presence in users:
        a.backend.leave_nowait("room", presence, grace=True)
    await wait_until(lambda: a.redis.presence.rooms == {})
    assert set(nodes.stored_keys()) <= {"{room}:m", "{room}:s"}


# The invariants.


@each_server
@pytest.mark.parametrize("lost", ["nothing", "lease", "leases", "nodes"])
async def test_p2_the_users_of_a_killed_node_leave_once(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, lost: str
) -> None:
    c = await nodes.start()
    await subscribe(a, b, c)
    await join(a, "c1", "alice")
    await join(b, "c2", "bob")
    await join(c, "c3", "carol")
    await a.backend.enter_nowait("room", announced("c4", "bob"))
    await a.backend.enter_nowait("room", announced("c5", "dora"))
    await a.backend.leave_nowait("room", announced("c5", "dora"), grace=True)
    await nodes.crash(a)
    if lost == "lease":
        redis_server.command("ZREM", f"{nodes.prefix}:{{room}}:n", a.redis.node_id)
    elif lost == "leases":
        lose(redis_server, nodes, "{room}:n")
    elif lost == "nodes":
        lose(redis_server, nodes, "{%nodes}:*")
    limit = TIMING.expiry_seconds + TIMING.renewal_seconds + MACHINE_SECONDS
    async with asyncio.timeout(limit):
        await wait_until(lambda: {"alice left", "dora left"} <= set(b.texts("room")))
    assert await c.backend.members("room") == await b.backend.members("room") == ["bob", "carol"]
    await wait_for_result(lambda: c.backend.rooms(""), ["room"])
    await marked(b, c)
    for node in (b, c):
        changes = [each for each in node.texts("room") if each.endswith("left")]
        assert sorted(changes) == ["alice left", "dora left"]
        assert node.texts("room").count("carol joined") == 1
        assert node.history_losses == []


@each_server
async def test_p2_many_users_of_a_killed_node_leave_in_several_calls(
    nodes: Nodes, a: RecordingNode, b: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"user {number}" for number in range(1_000)]
    await a.backend.subscribe("room", None)
    await b.backend.subscribe("room", None)
    await b.backend.enter_nowait("room", announced("c", "bob"))
    enters = [a.backend.enter_nowait("room", announced(f"c{user}", user)) for user in users]
    assert all(await asyncio.gather(*map(asyncio.ensure_future, enters)))
    await wait_until(lambda: len(b.texts("room")) == 1_001)
    execute, slices = b.redis.client.execute, list[str]()

    async def count(operations: Sequence[Request]) -> list[object]:
        names = [operation[0] for operation in operations]
        slices.extend({"renew_room", "expire_nodes", "page"} & set(names))
        return await execute(operations)

    monkeypatch.setattr(b.redis.client, "execute", count)
    await nodes.crash(a)
    await wait_for_result(lambda: b.backend.members("room"), ["bob"])
    await wait_until(lambda: len(b.texts("room")) >= 2_001)
    await marked(b)
    left = [each.removesuffix(" left") for each in b.texts("room")[1_001:-1]]
    assert sorted(left) == sorted(users)
    assert len(slices) >= 1_000 // ENTRIES_PER_SLICE


@pytest.mark.parametrize("ending", ["leave", "leave with grace", "expire"])
async def test_p2_a_user_whose_connection_is_not_in_the_list_any_more_leaves_with_it(
    a: RecordingNode, b: RecordingNode, ending: str
) -> None:
    await b.backend.subscribe("room", HISTORY)
    call, terms, tag = a.redis.pipeline.call, a.redis.terms, "{room}"
    alice = announced("c1", "alice")
    entered = await call(operations.enter(tag, terms, alice, claims=True))
    known = entered.generation
    await call(operations.claim(tag, terms, known=known))
    # NOTE: as the list of a node on which the user is in the grace period.
    await call(operations.compare(tag, terms, "", "", [[alice.key]]))
    if ending != "expire":
        ms = 50 if ending == "leave with grace" else 0
        await call(operations.leave(tag, terms, alice, grace=ms, is_last=True))
        await asyncio.sleep(0.06)
    if ending != "leave":
        await call(operations.expire(tag, terms, alice.key, is_last=True))
    assert await b.backend.members("room") == []
    await marked(b)
    assert b.texts("room") == ["alice joined", "alice left", "marker"]

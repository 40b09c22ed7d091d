"""The records of presence over Redis after faults: lost data, outages, an expired node.

P3: an expired node is fenced. P5: everything heals from nothing. P7: nobody is announced again.
"""

import asyncio

import pytest

from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.members import merge
from falcon_pachinko.errors import BackendUnavailable, OperationRefused
from falcon_pachinko.history import Position
from falcon_pachinko.presence import ChangeKind, MemberChange

from ...support.backends import (
    HISTORY,
    TIMING,
    Nodes,
    RecordingNode,
    disconnected,
    text,
    wait_available,
    wait_for_result,
    wait_until,
)
from ...support.redis_servers import RedisServer
from .faults import LOSSES, each_server, lose

pytestmark = pytest.mark.redis

# What a loaded machine may take for a renewal and for messages, besides the times of the contract.
MACHINE_SECONDS = 1.5


async def join(node: RecordingNode, connection: str, user: str, record: bytes | None) -> Presence:
    """Subscribe to the room and enter it with a record."""
    await node.backend.subscribe("room", HISTORY)
    messages = text(f"{user} joined"), text(f"{user} left")
    presence = Presence(connection, user, *messages, record=record)
    await node.backend.enter_nowait("room", presence)
    return presence


async def update(node: RecordingNode, presence: Presence, record: bytes) -> None:
    """Replace a record without a message."""
    presence.set_record(record)
    await node.backend.update("room", presence)


async def wait_records(node: RecordingNode, **expected: list[int]) -> None:
    """Wait until the list of the room has these users and records."""

    async def read() -> dict[str, list[int]]:
        return (await node.backend.members("room")).decode(int)

    async with asyncio.timeout(TIMING.renewal_seconds + MACHINE_SECONDS):
        await wait_for_result(read, expected)


async def assert_complete(*nodes: RecordingNode) -> None:
    """Check that Redis has the list of each node: a renewal does not ask for it."""
    for node in nodes:
        state = node.redis.presence.rooms["room"]
        operation = operations.renew_room(
            "{room}",
            node.redis.terms,
            generation=state.generation,
            digest=state.digest,
            known=node.backend.position("room"),
            extend=False,
        )

        async def renewal(node: RecordingNode = node) -> operations.Renewal:
            return (await node.redis.pipeline.call(operation)).renewal  # noqa: B023

        await wait_for_result(renewal, operations.Renewal.OK)


@each_server
@pytest.mark.parametrize("loss", LOSSES)
async def test_p5_after_a_loss_the_lists_have_all_records_again(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, loss: str
) -> None:
    alice = await join(a, "c1", "alice", b"1")
    bob = await join(b, "c2", "bob", None)
    await join(b, "c3", "bob", b"3")
    await update(a, alice, b"10")
    await update(b, bob, b"20")
    await wait_until(lambda: len(a.texts("room")) == 2)
    lose(redis_server, nodes, loss)
    for node in (a, b):
        await wait_records(node, alice=[10], bob=[20, 3])
    for node in (a, b):
        await node.redis.renewals.renew()
    await assert_complete(a, b)
    await a.backend.publish_nowait("room", text("marker"))
    await wait_until(lambda: a.got_last("room", "marker"))
    assert a.texts("room") == ["alice joined", "bob joined", "marker"]


@each_server
async def test_p5_an_update_that_redis_has_lost_is_stored_again(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    alice = await join(a, "c1", "alice", b"1")
    carol = await join(a, "c3", "carol", None)
    await join(b, "c2", "bob", None)
    with redis_server.connect() as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        (key,) = [each for each in client.scan_iter() if each.endswith(b"{room}:p")]
        before = client.hgetall(key)
        await update(a, alice, b"2")
        await update(a, carol, b"3")
        await wait_records(b, alice=[2], carol=[3], bob=[])
        client.hset(key, mapping=before)
    await wait_records(b, alice=[2], carol=[3], bob=[])
    await assert_complete(a, b)


@each_server
async def test_p5_a_record_of_an_earlier_time_in_the_room_is_removed(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    alice = await join(a, "c1", "alice", None)
    await join(b, "c2", "bob", None)
    old = Presence("c1", "alice", record=b"1")
    await a.redis.pipeline.call(operations.update("{room}", a.redis.terms, old, None))
    await wait_records(b, alice=[1], bob=[])
    await wait_records(b, alice=[], bob=[])
    await assert_complete(a, b)
    assert alice.version == 0


async def test_the_digest_is_that_of_the_list_after_each_change(
    a: RecordingNode, b: RecordingNode
) -> None:
    await join(b, "c0", "bob", None)
    first = await join(a, "c1", "alice", b"1")
    second = await join(a, "c2", "alice", None)
    await assert_complete(a)
    for presence, record in ((first, b"2"), (second, b"3"), (first, b"4")):
        await update(a, presence, record)
        await assert_complete(a)
    terms, pipeline = a.redis.terms, a.redis.pipeline
    for _ in range(2):  # a repeated call
        await pipeline.call(operations.update("{room}", terms, first, None))
        await pipeline.call(operations.enter("{room}", terms, second, claims=False))
    await assert_complete(a)
    await a.backend.leave_nowait("room", first, grace=True)
    await assert_complete(a)
    await wait_records(b, bob=[], alice=[3])


async def test_an_older_record_does_not_replace_a_later_one(
    a: RecordingNode, b: RecordingNode
) -> None:
    alice = await join(a, "c1", "alice", b"1")
    late = operations.update("{room}", a.redis.terms, alice, None)
    await update(a, alice, b"2")
    await a.redis.pipeline.call(late)
    await wait_records(b, alice=[2])
    await assert_complete(a)


@each_server
async def test_p3_an_expired_node_is_refused_and_then_stores_the_current_record(
    a: RecordingNode, b: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await join(b, "c2", "bob", None)
    alice = await join(a, "c1", "alice", b"1")
    pending = asyncio.get_running_loop().create_future()
    with monkeypatch.context() as patched:
        patched.setattr(a.redis.renewals, "renew", lambda: pending)
        await wait_until(lambda: b.got_last("room", "alice left"))
    with pytest.raises(OperationRefused, match="no lease"):
        await a.redis.pipeline.call(operations.update("{room}", a.redis.terms, alice, b"\nlate"))
    alice.set_record(b"2")
    await a.backend.update("room", alice, text("alice: 2"))
    pending.set_result(None)
    await wait_until(lambda: b.got_last("room", "alice: 2"))
    assert b.texts("room")[-3:] == ["alice left", "alice joined", "alice: 2"]
    await wait_records(b, bob=[], alice=[2])
    await assert_complete(a, b)


@each_server
async def test_during_an_outage_a_record_is_kept_and_its_message_raises(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    first, second = await join(a, "c1", "alice", b"1"), await join(a, "c2", "alice", None)
    await join(b, "c3", "bob", b"3")
    async with disconnected(a):
        await update(a, first, b"10")
        second.set_record(b"20")
        with pytest.raises(BackendUnavailable):
            await a.backend.update("room", second, text("lost"))
        assert (await a.backend.members("room")).decode(int) == {"alice": [10, 20]}
    await wait_available(a)
    await wait_records(b, alice=[10, 20], bob=[3])
    await assert_complete(a, b)
    await a.backend.publish_nowait("room", text("marker"))
    await wait_until(lambda: b.got_last("room", "marker"))
    assert "lost" not in b.texts("room")


async def test_the_records_of_a_crashed_node_leave_with_it(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    await join(a, "c1", "alice", b"1")
    await join(b, "c2", "alice", b"2")
    await nodes.crash(a)
    await wait_for_result(lambda: records_of_alice(b), [2])
    await assert_complete(b)


async def records_of_alice(node: RecordingNode) -> list[int]:
    """Return the records of Alice in the list of a node."""
    return (await node.backend.members("room")).decode(int)["alice"]


def page(offset: int, users: dict[str, dict[str, bytes]], *, more: bool = False) -> operations.Page:
    """Create a part of a list of three users, as of an offset."""
    numbered = list(enumerate(users, 1))
    records = {user: found for user, found in users.items() if found}
    return operations.Page(3, Position("e", offset), numbered, more, records)


def change(kind: ChangeKind, user: str, **records: bytes) -> MemberChange:
    """Create a change of the room."""
    return MemberChange("room", user, kind, records)


def test_p4_the_changes_after_each_part_of_a_list_are_merged() -> None:
    pages = [
        page(3, {"alice": {"c1": b"1"}, "bob": {"c2": b"2"}}, more=True),
        page(5, {"carol": {"c3": b"3"}}),
    ]
    changes = [
        (2, change(ChangeKind.UPDATED, "alice", c1=b"0")),  # the first part contains it
        (4, change(ChangeKind.UPDATED, "bob", c2=b"20", c9=b"90")),
        (5, change(ChangeKind.UPDATED, "carol", c3=b"0")),  # the second part contains it
        (6, change(ChangeKind.JOINED, "dora", c4=b"4")),
        (7, change(ChangeKind.UPDATED, "carol")),
        (8, change(ChangeKind.UPDATED, "dora", c4=b"40")),
        (9, change(ChangeKind.UPDATED, "eve", c5=b"5")),  # on no page
    ]
    merged = merge(pages, None, changes)
    assert (merged, merged.total) == (["alice", "bob", "carol", "dora"], 4)
    assert merged.decode(int) == {"alice": [1], "bob": [20, 90], "carol": [], "dora": [40]}


def test_p4_a_user_that_leaves_and_joins_again_has_the_records_of_the_join() -> None:
    changes = [
        (4, change(ChangeKind.UPDATED, "alice", c1=b"0")),
        (5, change(ChangeKind.LEFT, "alice")),
        (6, change(ChangeKind.JOINED, "alice", c7=b"7")),
    ]
    merged = merge([page(3, {"alice": {"c1": b"1"}, "bob": {}})], None, changes)
    assert merged.decode(int) == {"bob": [], "alice": [7]}


async def test_the_changes_of_a_room_arrive_with_the_records(
    a: RecordingNode, b: RecordingNode
) -> None:
    await b.backend.subscribe("room", HISTORY)
    alice = await join(a, "c1", "alice", b"1")
    await update(a, alice, b"2")
    await a.backend.update("room", alice, text("alice: 2"))
    await a.backend.leave_nowait("room", alice, grace=False)
    await wait_until(lambda: b.got_last("room", "alice left"))
    assert [publication.change for _, publication in b.publications] == [
        change(ChangeKind.JOINED, "alice", c1=b"1"),
        change(ChangeKind.UPDATED, "alice", c1=b"2"),
        change(ChangeKind.LEFT, "alice"),
    ]

"""The numbering and the presence of rooms after a failover to a replica that lags, or a restart from old data."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from falcon_pachinko.backends.lease import Lease
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.operations import Operation
from falcon_pachinko.backends.redis.script import ENTRIES_PER_SLICE, SUSPICION_MS
from falcon_pachinko.errors import LeaseLost
from falcon_pachinko.history import Position
from falcon_pachinko.publisher import AsyncPublisher

from ...support.backends import (
    Nodes,
    RecordingNode,
    announced,
    wait_available,
    wait_for_result,
    wait_until,
)
from ...support.redis_servers import PROGRAMS, RedisServer, find_program, running_redis
from .faults import lose_reply
from .room import MACHINE_SECONDS, join, marked, subscribe
from .test_script import TERMS, execute, publish, sync_room

pytestmark = pytest.mark.redis

META = "script:{room}:m"


@pytest.fixture(params=PROGRAMS)
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    if find_program(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with running_redis(request.param) as server:
        yield server


@pytest.fixture
def replica(redis_server: RedisServer, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with running_redis(request.node.callspec.params["redis_server"]) as server:
        yield server


async def publish_once(server: RedisServer) -> Position:
    """Publish a message, and return its position."""
    (position,) = await execute(server, publish())
    assert isinstance(position, Position)
    return position


async def follow(replica: RedisServer, primary: RedisServer) -> None:
    """Make a server a replica, and wait until it has what its primary has."""
    replica.command("REPLICAOF", "127.0.0.1", primary.port)

    async def has_all() -> bool:
        info = replica.command("INFO", "replication")
        offset = primary.command("INFO", "replication")["master_repl_offset"]
        return bool(info["master_link_status"] == "up" and info["slave_repl_offset"] == offset)

    await wait_for_result(has_all, True)


def save(server: RedisServer) -> None:
    """Write all data to the disk; the server reads it at each later start."""
    server.command("SAVE")


async def test_after_a_restart_from_old_data_a_publish_begins_a_new_epoch(
    redis_server: RedisServer,
) -> None:
    await execute(redis_server, sync_room(), *[publish()] * 3)
    save(redis_server)
    lost = await publish_once(redis_server)
    redis_server.restart(from_snapshot=True)
    assert redis_server.command("HGET", META, "o") == "3"
    first = await publish_once(redis_server)
    second = await publish_once(redis_server)
    assert first.epoch != lost.epoch
    assert [first, second] == [Position(first.epoch, 1), Position(first.epoch, 2)]
    assert redis_server.command("XLEN", "script:{room}:s") == 2


async def test_after_a_restart_from_old_data_a_node_reads_a_new_epoch(
    redis_server: RedisServer,
) -> None:
    await execute(redis_server, sync_room())
    known = await publish_once(redis_server)
    save(redis_server)
    redis_server.restart(from_snapshot=True)
    # NOTE: nothing was lost, but neither Redis nor the node can know it.
    ((epoch, offset, *_),) = await execute(redis_server, sync_room(known=known))
    assert epoch.decode() != known.epoch
    assert int(offset) == 0


async def test_tokens_and_bounds_survive_a_restart_from_old_data(redis_server: RedisServer) -> None:
    await execute(redis_server, sync_room(), publish(lease=Lease("worker", 7, 0.0)))
    names = ("n", "a", "r", "f:worker")
    kept = redis_server.command("HMGET", META, *names)
    assert None not in kept
    save(redis_server)
    redis_server.restart(from_snapshot=True)
    with pytest.raises(LeaseLost):
        await execute(redis_server, publish(lease=Lease("worker", 6, 0.0)))
    await execute(redis_server, publish(lease=Lease("worker", 7, 0.0)))
    assert redis_server.command("HMGET", META, *names) == kept


async def test_the_promotion_of_a_replica_begins_a_new_epoch(
    redis_server: RedisServer, replica: RedisServer
) -> None:
    await execute(redis_server, sync_room(), publish())
    await follow(replica, redis_server)
    before = await publish_once(redis_server)
    redis_server.command("WAIT", 1, 1000)
    replica.command("REPLICAOF", "NO", "ONE")
    after = await publish_once(replica)
    assert (after.offset, after.epoch != before.epoch) == (1, True)


async def test_a_primary_that_was_a_replica_meanwhile_begins_a_new_epoch(
    redis_server: RedisServer, replica: RedisServer
) -> None:
    await execute(redis_server, sync_room())
    await follow(replica, redis_server)
    await publish_once(redis_server)
    redis_server.command("WAIT", 1, 1000)
    # NOTE: nothing is written to the room meanwhile, but what it was after the promotion may be lost now.
    before = redis_server.command("HGET", META, "e")
    run_id = redis_server.command("INFO", "server")["run_id"]
    replica.command("REPLICAOF", "NO", "ONE")
    await follow(redis_server, replica)
    redis_server.command("REPLICAOF", "NO", "ONE")
    assert redis_server.command("HGET", META, "e") == before
    assert redis_server.command("INFO", "server")["run_id"] == run_id
    assert (await publish_once(redis_server)).epoch != before


async def test_another_replica_does_not_change_the_epoch(
    redis_server: RedisServer, replica: RedisServer
) -> None:
    with running_redis() as first:
        first.command("REPLICAOF", "127.0.0.1", redis_server.port)
        await follow(replica, redis_server)
        before = await publish_once(redis_server)
        replica.command("REPLICAOF", "NO", "ONE")
        await follow(replica, redis_server)
        assert await publish_once(redis_server) == Position(before.epoch, before.offset + 1)


async def test_without_the_right_to_info_a_room_keeps_its_epoch(redis_server: RedisServer) -> None:
    redis_server.command("ACL", "SETUSER", "default", "-info")
    before = await publish_once(redis_server)
    assert redis_server.command("HGET", META, "u") == ""
    save(redis_server)
    redis_server.restart(from_snapshot=True)
    redis_server.command("ACL", "SETUSER", "default", "-info")
    assert await publish_once(redis_server) == Position(before.epoch, 2)
    # NOTE: a caller with the right records the server, and finds out about the next one.
    redis_server.command("ACL", "SETUSER", "default", "+info")
    assert await publish_once(redis_server) == Position(before.epoch, 3)
    assert redis_server.command("HGET", META, "u") != ""


async def test_a_call_of_each_kind_doubts_the_presence_after_a_restart_from_old_data(
    redis_server: RedisServer,
) -> None:
    enter = operations.enter("{room}", TERMS, announced("c1", "alice"), claims=True)
    await execute(redis_server, enter)
    save(redis_server)
    again = operations.enter("{room}", TERMS, announced("c2", "bob"), claims=False)
    calls: tuple[Operation[Any], ...] = (
        again,
        operations.claim("{room}", TERMS, known=""),
        operations.page("{room}", TERMS, None, 10, node=TERMS.node),
        operations.expire_nodes("{room}", TERMS, node=TERMS.node),
    )
    for call in calls:
        redis_server.restart(from_snapshot=True)
        before = redis_server.command("HMGET", "script:{room}:p", "u", "w", "z")
        await execute(redis_server, call)
        after = redis_server.command("HMGET", "script:{room}:p", "u", "w", "z")
        assert before[0] != after[0]
        assert (before[1], before[2]) == ("0", None)
        assert float(after[2]) - float(after[1]) == 2 * TERMS.lease - TERMS.recovery


@pytest.mark.parametrize("end", ["removed", "returned"])
async def test_p4_nodes_read_the_list_again_if_the_first_slices_were_removed_in_silence(
    redis_server: RedisServer, end: str
) -> None:
    gone = TERMS._replace(node="gone")
    users = [announced(f"c{number}", f"user {number}") for number in range(ENTRIES_PER_SLICE + 8)]
    enters = [operations.enter("{room}", gone, user, claims=True) for user in users]
    witness = operations.enter("{room}", TERMS, announced("c", "witness"), claims=True)
    await execute(redis_server, sync_room(), witness, *enters)
    # NOTE: as after a failover, for the first slice only.
    seconds, _ = redis_server.command("TIME")
    redis_server.command("HSET", "script:{room}:p", "z", (seconds + 60) * 1000)
    redis_server.command("ZADD", "script:{room}:n", 1, gone.node)
    expire = operations.expire_nodes("{room}", TERMS, node=TERMS.node)
    assert await execute(redis_server, expire) == [True]
    assert redis_server.command("HGET", "script:{room}:p", "v") is None
    redis_server.command("HDEL", "script:{room}:p", "z")
    if end == "removed":
        assert await execute(redis_server, expire) == [False]
        assert redis_server.command("HGET", META, "o") == str(1 + len(users) + 8)
    else:
        await execute(redis_server, operations.claim("{room}", gone, known=""))
    assert redis_server.command("HGET", "script:{room}:p", "v") is not None
    assert redis_server.command("HGET", "script:{room}:p", f"s{gone.node}") is None


async def test_a_renewal_returns_the_rest_of_a_recovery_and_not_that_of_a_suspicion(
    redis_server: RedisServer,
) -> None:
    renew = operations.renew_room(
        "{room}", TERMS, generation="", digest=0, known=None, extend=False
    )
    enter = operations.enter("{room}", TERMS, announced("c1", "alice"), claims=True)
    await execute(redis_server, enter)

    async def rest(fraction: str) -> bool:
        """Return whether a renewal returns a rest of a recovery that is shorter than a suspicion."""
        seconds, microseconds = redis_server.command("TIME")
        ends_ms = seconds * 1000 + microseconds // 1000 + SUSPICION_MS
        redis_server.command("HSET", "script:{room}:p", "w", f"{ends_ms}{fraction}")
        (renewed,) = await execute(redis_server, renew)
        return bool(0 < renewed.recovery <= SUSPICION_MS)

    await wait_for_result(lambda: rest(""), True)
    assert not await rest(".5")


async def test_p1_and_p7_nodes_notice_a_restart_from_old_data_without_new_announcements(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    await subscribe(a, b)
    await join(a, "c1", "alice")
    await join(b, "c2", "bob")
    save(redis_server)
    await join(b, "c3", "carol")
    redis_server.restart(from_snapshot=True)
    async with AsyncPublisher(redis_server.url, prefix=nodes.prefix, answer_seconds=5.0) as other:
        for _ in range(3):
            await other.broadcast_to_room("room", {"type": "message"})
    await wait_until(lambda: len(a.history_losses) == len(b.history_losses) == 1)
    await wait_available(a, b)
    users = ["alice", "bob", "carol"]
    await wait_for_result(lambda: a.backend.members("room"), users)
    await wait_for_result(lambda: b.backend.members("room"), users)
    await marked(a, b)
    for node in (a, b):
        joined = [each for each in node.texts("room") if "joined" in each or "left" in each]
        assert joined == ["alice joined", "bob joined", "carol joined"]


@pytest.mark.parametrize("lost", ["leave", "leave with grace", "expire"])
@pytest.mark.parametrize("from_snapshot", [True, False], ids=["old data", "no data"])
async def test_p2_a_leave_whose_reply_is_lost_with_the_data_is_published_once(
    redis_server: RedisServer,
    a: RecordingNode,
    b: RecordingNode,
    monkeypatch: pytest.MonkeyPatch,
    from_snapshot: bool,
    lost: str,
) -> None:
    await subscribe(a, b)
    alice = await join(a, "c1", "alice")
    await join(a, "c2", "bob")
    await join(b, "c3", "carol")
    save(redis_server)
    operation, _, grace = lost.partition(" with ")

    async def restart() -> None:
        if not grace:
            await wait_until(lambda: b.got_last("room", "alice left"))
        redis_server.restart(from_snapshot=from_snapshot)

    lose_reply(a.redis.client, monkeypatch, operation, restart)
    a.backend.leave_nowait("room", alice, grace=lost != "leave")
    await wait_until(lambda: not a.redis.pipeline.outage and bool(b.outdated or b.history_losses))
    await wait_available(a, b)
    for node in (a, b):
        await wait_for_result(partial(node.backend.members, "room"), ["bob", "carol"])
    await marked(a, b)
    assert a.texts("room").count("alice left") == b.texts("room").count("alice left") == 1


async def test_a_node_that_reads_the_list_does_not_keep_the_users_who_have_left_it(
    redis_server: RedisServer, nodes: Nodes
) -> None:
    a, b = [await nodes.start() for _ in range(2)]
    await subscribe(a, b)
    await join(a, "alice", "alice")
    bob = await join(b, "bob", "bob")
    save(redis_server)
    await b.backend.leave_nowait("room", bob, grace=False)
    redis_server.restart(from_snapshot=True)
    # NOTE: each call comes long before the other node's next renewal.
    timing = nodes.timing
    bound = timing.expiry_seconds + 2 * timing.renewal_seconds + MACHINE_SECONDS
    async with asyncio.timeout(bound):
        await wait_for_result(partial(b.backend.members, "room"), ["alice"])

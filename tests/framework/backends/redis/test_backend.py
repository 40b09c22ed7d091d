"""The Redis backend: outages, remaining keys, replaced workers; the invariant P1: no message is lost silently."""

import asyncio
import itertools
from functools import partial

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.lease import CURRENT_LEASE, Lease
from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis.script import MIN_STREAM_MS
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.errors import LeaseLost
from falcon_pachinko.history import History

from ...support.backends import (
    HISTORY,
    Nodes,
    RecordingNode,
    announced,
    text,
    wait_for_result,
    wait_until,
)
from ...support.redis_servers import RedisServer
from .faults import LOSSES, each_server, lose

pytestmark = pytest.mark.redis


async def test_during_an_outage_publishing_raises_and_the_node_gives_the_reason(
    redis_server: RedisServer, a: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    redis_server.kill()
    await wait_until(lambda: a.backend.outage != "")
    with pytest.raises(BackendUnavailable) as raised:
        await a.backend.publish_nowait("room", text("lost?"))
    assert str(raised.value) == a.backend.outage
    with pytest.raises(BackendUnavailable):
        await a.backend.publish_direct(text("lost?"))
    with pytest.raises(BackendUnavailable):
        await a.backend.rooms("")
    assert await a.backend.members("room") == []


async def test_no_keys_remain_after_all_members_have_left(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    brief = History(messages=10, seconds=0.3)
    for number in range(20):
        node = a if number % 2 else b
        await node.backend.subscribe(f"room {number}", brief if number % 3 else None)
        presence = Presence(f"c{number}", f"user {number}", None, text("left"))
        await node.backend.enter_nowait(f"room {number}", presence)
        await node.backend.publish_nowait(f"room {number}", text("something"))
        await node.backend.leave_nowait(f"room {number}", presence, grace=True)
        node.backend.unsubscribe(f"room {number}")

    def wrong_keys() -> dict[str, int]:
        """Return the keys that are not messages which expire soon: those are for nodes that are disconnected."""
        assert nodes.server is not None
        with nodes.server.connect() as client:
            left_ms = {key: client.pttl(key) for key in client.scan_iter(f"{nodes.prefix}:*")}
        return {
            key: ms
            for key, ms in left_ms.items()
            if ":{%nodes}:r:" in key
            or (
                "{%nodes}" not in key
                and not (key[-1] in "sm" and -1 != ms <= MIN_STREAM_MS * 5 / 4)
            )
        }

    # NOTE: a room is released once Redis has confirmed that the node has unsubscribed. Waiting for the server must not
    #   block the nodes, whose leases are short.
    nothing: dict[str, int] = {}
    await wait_for_result(lambda: asyncio.to_thread(wrong_keys), nothing)


async def test_no_keys_remain_after_grace_periods_that_end_together(
    nodes: Nodes, a: RecordingNode
) -> None:
    users = [announced(f"c{number}", f"user {number}") for number in range(3)]
    await a.backend.subscribe("room", None)
    for presence in users:
        await a.backend.enter_nowait("room", presence)
    await asyncio.gather(
        *[a.backend.leave_nowait("room", presence, grace=True) for presence in users]
    )
    a.backend.unsubscribe("room")
    await wait_until(
        lambda: not any("{room}:" in key[:-1] and key[-1] in "pnok" for key in nodes.stored_keys())
    )


async def test_a_worker_is_not_refused_after_redis_has_lost_its_tokens(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    lease_key, tokens = (f"{nodes.prefix}:{{%nodes}}:{name}" for name in ("l:worker", "f"))
    for lost_keys in ((lease_key,), (lease_key, tokens), ()):
        lease = await a.backend.acquire("worker")
        assert isinstance(lease, Lease)
        reset = CURRENT_LEASE.set(lease)
        try:
            await a.backend.publish_nowait("room", text(str(lease.token)))
        finally:
            CURRENT_LEASE.reset(reset)
        for key in lost_keys:
            redis_server.command("DEL", key)
    await wait_until(lambda: len(a.texts("room")) == 3)
    assert a.texts("room") == sorted(a.texts("room"), key=int)


async def test_publications_of_a_replaced_worker_are_refused(
    a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", None)
    soon = asyncio.get_running_loop().time() + 60
    CURRENT_LEASE.set(Lease("announce", 2, soon))
    await b.backend.publish_nowait("room", text("the new one"))
    CURRENT_LEASE.set(Lease("announce", 1, soon))
    with pytest.raises(LeaseLost):
        await a.backend.publish_nowait("room", text("the old one"))
    CURRENT_LEASE.set(Lease("announce", 3, 0.0))
    with pytest.raises(LeaseLost, match="has expired"):
        await a.backend.publish_nowait("room", text("one with an expired lease"))
    CURRENT_LEASE.set(None)
    await a.backend.publish_nowait("room", text("marker"))
    await wait_until(lambda: b.got_last("room", "marker"))
    assert b.texts("room") == ["the new one", "marker"]


async def prepare_p1(*nodes: RecordingNode) -> None:
    """Let each node have a member in the room and receive a message."""
    for node in nodes:
        await node.backend.subscribe("room", HISTORY)
    for number, node in enumerate(nodes):
        await node.backend.enter_nowait("room", announced(f"c{number}", f"user {number}"))
    await nodes[0].backend.publish_nowait("room", text("before"))
    for node in nodes:
        await wait_until(partial(node.got_last, "room", "before"))


@each_server
@pytest.mark.parametrize("loss", LOSSES)
async def test_p1_after_a_loss_a_publication_is_delivered_or_its_loss_is_reported(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, loss: str
) -> None:
    await prepare_p1(a, b)
    lose(redis_server, nodes, loss)
    published = [f"{number}" for number in range(6)]
    for number, node in zip(published, itertools.cycle((a, b)), strict=False):
        await node.backend.publish_nowait("room", text(number))
    await b.backend.publish_nowait("room", text("last"))
    for node in (a, b):
        await wait_until(partial(node.got_last, "room", "last"))
        received = [each for each in node.texts("room") if each in published]
        assert received == sorted(set(received))
        assert node.history_losses or received == published
    positions_are_lost = loss.endswith(("{room}:m", "{room}:*", "FLUSHALL"))
    assert bool(a.history_losses and b.history_losses) is positions_are_lost
    assert bool(a.history_losses or b.history_losses) is positions_are_lost


@each_server
async def test_p1_without_a_fault_no_loss_is_reported(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    await prepare_p1(a, b)

    async def publish(node: RecordingNode) -> None:
        for number in range(100):
            await node.backend.publish_nowait("room", text(str(number)))

    async def join_and_leave(node: RecordingNode) -> None:
        for number in range(50):
            presence = announced(f"x{number}", "guest")
            await node.backend.enter_nowait("room", presence)
            await node.backend.leave_nowait("room", presence, grace=False)

    async def renew(node: RecordingNode) -> None:
        for _ in range(10):
            await node.redis.renewals.renew()

    actions = (publish, join_and_leave, renew)
    await asyncio.gather(*[action(node) for node in (a, b) for action in actions])
    await a.backend.publish_nowait("room", text("last"))
    for node in (a, b):
        await wait_until(partial(node.got_last, "room", "last"))
        assert node.history_losses == []
        assert node.outdated == []
    assert a.texts("room")[2:] == b.texts("room")[2:]
    assert len([each for each in a.texts("room") if each.isdecimal()]) == 200


@each_server
async def test_no_call_holds_redis_for_long(redis_server: RedisServer, nodes: Nodes) -> None:
    """Enter, page, a new list and the end of a node in a room with 5,000 users."""
    asyncio.get_running_loop().set_debug(False)
    # NOTE: a node that a busy machine stops for longer than its lease would send its 5,000 users again.
    nodes.timing = Timing(grace_seconds=0.2, expiry_seconds=6.0, answer_seconds=4.0)
    a, b = await nodes.start(), await nodes.start()
    for node in (a, b):
        await node.backend.subscribe("room", None)
    await b.backend.enter_nowait("room", announced("c", "bob"))
    with redis_server.connect() as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        client.config_set("slowlog-max-len", 10_000)
        client.config_set("slowlog-log-slower-than", 500)

        def check_calls(least: int) -> None:
            entries = client.slowlog_get(10_000)
            client.slowlog_reset()
            calls = [each for each in entries if each["command"].startswith(b"EVAL")]
            durations = sorted(entry["duration"] for entry in calls)
            assert len(durations) >= least
            # NOTE: on a loaded machine the server waits for the processor during many calls.
            assert durations[len(durations) // 4] < 5_000

        users = [announced(f"c{number}", f"user {number}") for number in range(5_000)]
        enters = [asyncio.ensure_future(a.backend.enter_nowait("room", each)) for each in users]
        await asyncio.gather(*enters)
        check_calls(70)
        assert len(await b.backend.members("room")) == 5_001
        check_calls(5)
        client.unlink(f"{nodes.prefix}:{{room}}:p")
        for node in (a, b):
            await node.redis.renewals.renew()
        await wait_for_result(lambda: b.backend.occupancy("room"), 5_001)
        check_calls(70)
        await nodes.crash(a)
        await wait_for_result(lambda: b.backend.members("room"), ["bob"])
        check_calls(70)

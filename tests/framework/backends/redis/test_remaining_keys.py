"""What remains in Redis of a room whose members have left."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.client import Request
from falcon_pachinko.history import History

from ...support.backends import (
    HISTORY,
    WAIT_SECONDS,
    Nodes,
    RecordingNode,
    announced,
    text,
    wait_until,
)
from ...support.redis_servers import RedisServer
from .faults import each_server

pytestmark = [pytest.mark.redis, each_server]


class SlowPipeline:
    """Holds the calls of a node back, so that operations share a call; the node renews nothing."""

    def __init__(self, node: RecordingNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pipeline = node.redis.pipeline
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.execute = self.pipeline.client.execute
        monkeypatch.setattr(self.pipeline.client, "execute", self.wait)
        monkeypatch.setattr(node.redis.renewals, "renew", asyncio.Event().wait)

    async def wait(self, requests: Sequence[Request]) -> list[object]:
        await self.may_go_on.wait()
        return await self.execute(requests)

    async def hold_back(self, *names: str) -> None:
        """Begin a call, and wait until operations with these names wait for the next one."""
        self.may_go_on.clear()
        self.pipeline.call_ignoring_outcome(operations.live_nodes())
        await self.wait_submitted(*names)

    async def wait_submitted(self, *names: str) -> None:
        """Wait until operations with these names wait for the next call."""

        def are_submitted() -> bool:
            submitted = Counter(each.operation.request[0] for each in self.pipeline.submitted)
            return Counter(names) <= submitted

        await wait_until(are_submitted)


async def nothing_remains(nodes: Nodes) -> None:
    """Wait until a room without a history has no presence, and its node no rooms."""

    def is_empty() -> bool:
        assert nodes.server is not None
        kinds = {key[-2:] for key in nodes.stored_keys()}
        return kinds <= {":m", ":s"} and not nodes.server.keys(f"{nodes.prefix}:{{%nodes}}:r:*")

    await wait_until(is_empty)


async def leave_with_grace(node: RecordingNode, history: History | None) -> None:
    """Let the only user of a room enter it and leave it, with a grace period that the node has to end."""
    await node.backend.subscribe("room", history)
    presence = announced("c1", "alice")
    await node.backend.enter_nowait("room", presence)
    await node.backend.leave_nowait("room", presence, grace=True)


async def test_users_whose_grace_periods_end_together_leave_no_lease(
    nodes: Nodes, a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowPipeline(a, monkeypatch)
    await a.backend.subscribe("room", HISTORY)
    users = [announced(f"c{number}", f"user {number}") for number in range(3)]
    for presence in users:
        await a.backend.enter_nowait("room", presence)
    leaves = [a.backend.leave_nowait("room", presence, grace=True) for presence in users[:2]]
    await asyncio.gather(*leaves)
    await slow.hold_back("expire", "expire")
    a.backend.leave_nowait("room", users[2], grace=False)
    slow.may_go_on.set()
    await nothing_remains(nodes)


async def test_a_renewal_together_with_the_last_leave_leaves_no_lease(
    nodes: Nodes, a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowPipeline(a, monkeypatch)
    await leave_with_grace(a, HISTORY)
    await slow.hold_back("expire")
    a.redis.renewals.renew_room_later("room")
    slow.may_go_on.set()
    await nothing_remains(nodes)


async def test_a_renewal_after_the_release_of_a_room_does_not_create_it_again(
    nodes: Nodes, a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowPipeline(a, monkeypatch)
    await leave_with_grace(a, None)
    await slow.hold_back("expire")
    a.backend.unsubscribe("room")
    await slow.wait_submitted("expire", "release_room")
    a.redis.renewals.renew_room_later("room")
    slow.may_go_on.set()
    await wait_until(lambda: not a.redis.presence.rooms)
    await a.redis.pipeline.wait_idle(WAIT_SECONDS)
    assert nodes.stored_keys() == []


async def test_a_room_keeps_its_epoch_until_the_last_grace_period_is_over(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    await a.backend.subscribe("room", History(messages=10, seconds=0.01))
    presence = announced("c1", "alice")
    await a.backend.enter_nowait("room", presence)
    key = f"{nodes.prefix}:{{room}}:m"
    epoch = redis_server.command("HGET", key, "e")
    a.backend.leave_nowait("room", presence, grace=True)
    a.backend.unsubscribe("room")
    await nothing_remains(nodes)
    assert redis_server.command("HGET", key, "e") == epoch


async def test_a_stopped_node_leaves_nothing_that_does_not_expire(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    for number in range(3):
        room = f"room {number}"
        await a.backend.subscribe(room, HISTORY if number else None)
        await a.backend.enter_nowait(room, announced(f"c{number}", "alice"))
        await a.backend.publish_nowait(room, text("hello"))
    await a.backend.leave_nowait("room 1", announced("c1", "alice"), grace=True)
    await nodes.stop(a)
    keys = redis_server.keys(f"{nodes.prefix}:*")
    assert "room 2}:p" in " ".join(keys)
    assert [key for key in keys if redis_server.command("PTTL", key) == -1] == []

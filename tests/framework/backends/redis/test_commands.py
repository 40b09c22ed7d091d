"""P6, commands reach their target: all live nodes execute them, and a node that was cut off does when it has recovered."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.redis import operations, script
from falcon_pachinko.backends.redis.commands import Command
from falcon_pachinko.backends.redis.publisher import RedisPublisher
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.close_codes import SERVICE_RESTART
from falcon_pachinko.publication import Publication

from ...support.backends import (
    TIMING,
    WAIT_SECONDS,
    Nodes,
    RecordingNode,
    wait_until,
)
from ...support.cut_off import CutOff
from ...support.redis_servers import RedisServer

pytestmark = pytest.mark.redis

# The nodes expire after the time that a command has, so that a node that is cut off counts as live meanwhile.
SLOW = dataclasses.replace(TIMING, expiry_seconds=30.0, answer_seconds=1.0)


@pytest.fixture
def slow() -> Timing:
    return SLOW


@pytest.fixture
async def near(slow_nodes: Nodes) -> RecordingNode:
    node = await slow_nodes.start()
    await wait_until(node.redis.available.is_set)
    return node


@pytest.fixture
async def publisher(redis_server: RedisServer, slow_nodes: Nodes) -> AsyncIterator[RedisPublisher]:
    publisher = RedisPublisher(redis_server.url, slow_nodes.prefix, SLOW.answer_seconds)
    await publisher.start()
    yield publisher
    await publisher.aclose()


def kick(user: str = "bob") -> Publication:
    return Publication.close(4403, "spam", user=user)


def executed(node: RecordingNode) -> list[tuple[str | None, str | None, int]]:
    return [(c.header.user, room, c.header.close_code) for c, room, _ in node.commands]


async def test_p6_a_command_returns_within_a_second_when_all_nodes_have_executed_it(
    a: RecordingNode, b: RecordingNode
) -> None:
    async with asyncio.timeout(1.0):
        await a.backend.command(kick())
    assert executed(a) == executed(b) == [("bob", None, 4403)]
    async with asyncio.timeout(1.0):
        await b.backend.command(Publication.close(4000, "closing"), "room")
    assert executed(a)[1:] == executed(b)[1:] == [(None, "room", 4000)]


async def test_p6_a_publisher_waits_for_all_nodes_too(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    publisher = RedisPublisher(redis_server.url, nodes.prefix, TIMING.answer_seconds)
    await publisher.start()
    try:
        await publisher.command(kick())
        assert executed(a) == executed(b) == [("bob", None, 4403)]
    finally:
        await publisher.aclose()


async def test_p6_a_publisher_waits_for_the_nodes_of_a_list_that_was_lost(
    redis_server: RedisServer,
    slow_nodes: Nodes,
    near: RecordingNode,
    far: CutOff,
    publisher: RedisPublisher,
) -> None:
    await far.cut()
    redis_server.command("FLUSHALL")
    with pytest.raises(BackendUnavailable, match="not confirmed"):
        await publisher.command(kick())
    await slow_nodes.start()  # a new node finds no list, but does not know that there was one
    await near.redis.renewals.renew()
    with pytest.raises(BackendUnavailable, match="not confirmed"):
        await publisher.command(kick("carol"))
    await far.restore()
    assert set(executed(far.node)) == {("bob", None, 4403), ("carol", None, 4403)}


async def test_p6_a_publisher_does_not_wait_after_all_nodes_have_stopped_in_order(
    slow_nodes: Nodes, publisher: RedisPublisher
) -> None:
    for node in [await slow_nodes.start(), await slow_nodes.start()]:
        await slow_nodes.stop(node)
    await publisher.command(kick())
    assert executed(await slow_nodes.start()) == [("bob", None, 4403)]


async def test_p6_a_call_that_does_not_reach_a_live_node_raises_and_the_node_catches_up(
    near: RecordingNode, far: CutOff
) -> None:
    await far.cut()
    with pytest.raises(BackendUnavailable, match="1 of 2 nodes have not confirmed"):
        await near.backend.command(kick())
    assert executed(far.node) == []
    await far.restore()
    assert executed(far.node) == [("bob", None, 4403)]
    [(_, _, age_seconds)] = far.node.commands
    assert age_seconds > SLOW.answer_seconds / 2  # connections that are younger are spared
    assert executed(near) == [("bob", None, 4403)]


async def test_p6_a_command_survives_the_loss_of_all_data(
    redis_server: RedisServer, near: RecordingNode, far: CutOff
) -> None:
    await far.cut()
    with pytest.raises(BackendUnavailable):
        await near.backend.command(kick())
    redis_server.command("FLUSHALL")
    await near.redis.renewals.renew()
    await far.restore()
    assert executed(far.node) == [("bob", None, 4403)]
    assert executed(near) == [("bob", None, 4403)]


async def test_p6_a_call_waits_for_a_node_that_recovers_in_time(
    near: RecordingNode, far: CutOff
) -> None:
    far.link.to_server.clear()
    calling = asyncio.ensure_future(near.backend.command(kick()))
    await wait_until(lambda: executed(near) == [("bob", None, 4403)])
    assert not calling.done()
    far.link.to_server.set()
    await calling
    assert executed(far.node) == [("bob", None, 4403)]


async def test_p6_an_expired_node_is_not_waited_for(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    await nodes.crash(b)
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                await a.backend.command(kick())
                break
            except BackendUnavailable:
                continue


async def test_p6_a_node_that_missed_commands_which_are_gone_closes_all_connections(
    near: RecordingNode, far: CutOff
) -> None:
    await far.cut()
    for number in range(script.MAX_COMMANDS + 2):
        near.redis.pipeline.call_ignoring_outcome(
            operations.command(Command(kick(f"user{number}"), None).encode(), None)
        )
    await wait_until(lambda: len(near.commands) == script.MAX_COMMANDS + 2)
    await far.restore()
    assert executed(far.node)[0] == (None, None, SERVICE_RESTART)
    assert len(near.redis.commands.known) <= script.MAX_COMMANDS + 2


async def test_commands_are_decoded_as_they_were_encoded() -> None:
    for command in (
        Command(kick("zoë"), None),
        Command(Publication.close(4000, "a\nb"), "room\u00e9"),
    ):
        decoded = Command.decode(command.encode())
        assert decoded.room == command.room
        assert decoded.publication.header == command.publication.header
        assert decoded.publication.data == command.publication.data


async def test_commands_are_confirmed_soon_after_a_loss_and_a_jump_of_the_clock_back(
    redis_server: RedisServer, a: RecordingNode
) -> None:
    lost = f"{a.redis.client.prefix}:{{%nodes}}:w"
    # After a loss of the list of nodes it lasts for a lease, and after the jump for an hour more.
    redis_server.command("SET", lost, "", "PX", 3_600_000)
    await a.redis.renewals.renew()
    assert redis_server.command("PTTL", lost) <= a.redis.terms.lease

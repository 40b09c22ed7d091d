"""A Redis without memory, and rooms with broken keys: delivery continues, and one room's error concerns no other."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager

import falcon.asgi
import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from falcon_pachinko import (
    BackendUnavailable,
    History,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.once import Claim, ClaimState
from falcon_pachinko.backends.redis.client import Request
from falcon_pachinko.errors import OperationRefused
from falcon_pachinko.history import Position
from falcon_pachinko.testing import Client, Served, serve
from falcon_pachinko.uvicorn import PushProtocol

from ...support.backends import (
    HISTORY,
    WAIT_SECONDS,
    Nodes,
    RecordingNode,
    announced,
    disconnected,
    running_nodes,
    text,
    wait_available,
    wait_for_result,
    wait_until,
)
from ...support.once import ACKNOWLEDGED, NEW, RUNNING, claim, run_of, state_of
from ...support.redis_servers import PROGRAMS, RedisServer, find_program, running_redis

pytestmark = pytest.mark.redis


@pytest.fixture(params=PROGRAMS)
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    if find_program(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with running_redis(request.param) as server:
        yield server


@pytest.fixture
async def nodes(redis_server: RedisServer) -> AsyncIterator[Nodes]:
    async with running_nodes(redis_server.url, server=redis_server) as nodes:
        yield nodes


async def publish_all(node: RecordingNode, *texts: str) -> None:
    """Publish texts to the room."""
    for each in texts:
        await node.backend.publish_nowait("room", text(each))


async def renewals(*nodes: RecordingNode) -> None:
    """Renew the leases of nodes twice, and check that Redis is available for them."""
    for _ in range(2):
        for node in nodes:
            await node.redis.renewals.renew()
            await node.redis.pipeline.wait_idle(WAIT_SECONDS)
            assert node.backend.outage == ""


async def test_at_maxmemory_messages_are_delivered_and_not_kept(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    start = a.backend.position("room")
    assert start is not None
    await publish_all(a, "1", "2")
    redis_server.command("CONFIG", "SET", "maxmemory", 1)
    await asyncio.gather(publish_all(a, "3"), publish_all(b, "4"))
    await a.backend.publish_nowait("room", text("typing"), ephemeral=True)
    await publish_all(b, "5")
    await wait_until(lambda: a.got_last("room", "5") and b.got_last("room", "5"))
    assert sorted(a.texts("room")) == ["1", "2", "3", "4", "5", "typing"]
    assert a.texts("room") == b.texts("room")
    assert a.backend.position("room") == start._replace(offset=5)
    assert redis_server.keys(f"{nodes.prefix}:{{room}}:s") == []
    assert await a.backend.recover("room", [start]) is None
    assert await a.backend.recover("room", [start._replace(offset=5)]) == []
    await renewals(a, b)
    assert a.history_losses == b.history_losses == []

    redis_server.command("CONFIG", "SET", "maxmemory", 0)
    await publish_all(a, "6", "7")
    await wait_until(lambda: b.got_last("room", "7"))
    assert await b.backend.recover("room", [start._replace(offset=4)]) is None
    missed = await b.backend.recover("room", [start._replace(offset=5)])
    assert [publication.data for publication in missed or ()] == [b"6", b"7"]
    assert a.history_losses == b.history_losses == []


async def test_at_maxmemory_users_join_and_leave_and_workers_run(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    redis_server.command("CONFIG", "SET", "maxmemory", 1)
    await b.backend.subscribe("room", HISTORY)
    await b.backend.subscribe("new", HISTORY)
    assert b.backend.position("new") is not None
    assert await b.backend.enter_nowait("room", announced("c1", "alice")) is True
    assert await a.backend.enter_nowait("room", announced("c2", "bob")) is True
    assert await a.backend.members("room") == ["alice", "bob"]
    assert await a.backend.rooms("") == ["room"]
    assert await b.backend.leave_nowait("room", announced("c1", "alice"), grace=True) is False
    await wait_until(lambda: a.got_last("room", "alice left"))
    await wait_until(lambda: b.got_last("room", "alice left"))
    assert a.texts("room") == b.texts("room") == ["alice joined", "bob joined", "alice left"]
    await b.backend.publish_nowait("new", text("hello"))
    await wait_until(lambda: b.got_last("new", "hello"))
    assert await a.backend.acquire("worker") != 0.0
    c = await nodes.start()
    await c.backend.subscribe("room", HISTORY)
    assert await c.backend.enter_nowait("room", announced("c3", "carol")) is True
    await renewals(a, b, c)
    await nodes.crash(a)
    await wait_until(lambda: b.got_last("room", "bob left"))
    assert await b.backend.members("room") == ["carol"]


async def test_at_maxmemory_requests_are_handled_once(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    """Their replies take a bounded amount of memory, and are stored nevertheless."""
    await a.backend.subscribe("room", HISTORY)
    redis_server.command("CONFIG", "SET", "maxmemory", 1)
    answered, published = run_of("answered"), run_of("published")
    assert await claim(a, answered) == await claim(a, published) == NEW
    assert await state_of(b, "answered") == await state_of(b, "published") == RUNNING
    a.backend.finish_request(answered, b"reply")
    await a.backend.publish_nowait("room", text("effect"), run=published)
    a.backend.release_request(published, repeatable=True)
    reply = Claim(ClaimState.DONE, b"reply")
    await wait_for_result(lambda: state_of(b, "answered"), reply)
    await wait_for_result(lambda: state_of(b, "published", repeatable=True), ACKNOWLEDGED)
    with pytest.raises(OutOfMemoryError):
        redis_server.command("SET", "any", "value")


async def test_a_node_that_misses_a_message_at_maxmemory_is_notified(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    redis_server.command("CONFIG", "SET", "maxmemory", 1)
    async with disconnected(b):
        await publish_all(a, "missed")
    await publish_all(a, "received")
    await wait_until(lambda: b.got_last("room", "received"))
    assert b.texts("room") == ["received"]
    assert [room for room, _ in b.history_losses] == ["room"]
    assert a.history_losses == []


async def test_a_broken_room_heals_at_once(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    key = f"{nodes.prefix}:{{room}}:m"
    redis_server.command("SET", key, "a text")
    await a.backend.subscribe("room", HISTORY)
    assert a.backend.position("room") is not None
    await publish_all(a, "1")
    await wait_until(lambda: a.texts("room") == ["1"])
    redis_server.command("SET", key, "a text")
    await publish_all(a, "2")
    await wait_until(lambda: a.texts("room") == ["1", "2"])
    assert [room for room, _ in a.history_losses] == ["room"]
    redis_server.command("SET", key, "a text")
    assert await a.backend.recover("room", [Position("epoch", 1)]) is None
    await renewals(a)
    await wait_until(lambda: len(a.history_losses) == 2)
    await publish_all(a, "3")
    await wait_until(lambda: a.texts("room") == ["1", "2", "3"])
    assert len(a.history_losses) == 2


async def test_the_error_of_a_room_is_no_outage(
    nodes: Nodes, a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = a.redis.client.execute

    async def refuse(operations: Sequence[Request]) -> list[object]:
        replies = await execute(operations)
        for number, operation in enumerate(operations):
            if operation[1] == "{room}":
                replies[number] = ResponseError("ERR refused by the test")
        return replies

    with monkeypatch.context() as patched:
        patched.setattr(a.redis.client, "execute", refuse)
        await a.backend.subscribe("room", HISTORY)
        await a.backend.subscribe("other", HISTORY)
        assert a.backend.position("room") is None
        with pytest.raises(OperationRefused, match="refused by the test"):
            await a.backend.publish_nowait("room", text("lost"))
        with pytest.raises(BackendUnavailable):
            await a.backend.recover("room", [Position("epoch", 1)])
        await a.backend.publish_nowait("other", text("hello"))
        await wait_until(lambda: a.got_last("other", "hello"))
        await renewals(a)
        a.redis.pubsub.restart("disconnected by the test")
        await wait_until(lambda: a.backend.outage != "")
        await wait_available(a)
        await renewals(a)
    await wait_until(lambda: a.backend.position("room") is not None)
    assert [room for room, _ in a.resyncs] == ["room"]
    await publish_all(a, "again")
    await wait_until(lambda: a.texts("room") == ["again"])


async def test_a_key_of_a_wrong_type_in_place_of_a_history_is_dropped(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    key = f"{nodes.prefix}:{{room}}:s"
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    start = a.backend.position("room")
    assert start is not None
    await publish_all(a, "1")
    await wait_until(lambda: b.got_last("room", "1"))
    redis_server.command("DEL", key)
    redis_server.command("SET", key, "a text")
    assert await b.backend.recover("room", [start]) is None
    redis_server.command("SET", key, "a text")
    await publish_all(a, "2", "3")
    await wait_until(lambda: b.got_last("room", "3"))
    assert b.texts("room") == ["1", "2", "3"]
    c = await nodes.start()
    await c.backend.subscribe("room", HISTORY)
    assert len(await c.backend.recover("room", [start._replace(offset=2)]) or ()) == 1
    for node in (a, b, c):
        assert node.backend.outage == ""


async def test_a_broken_index_of_histories_does_not_affect_delivery(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    for name in ("h", "hx", "hb"):
        redis_server.command("SET", f"{nodes.prefix}:{{%nodes}}:{name}", "a text")
    await a.backend.subscribe("room", HISTORY)
    await publish_all(a, "1", "2")
    await wait_until(lambda: a.texts("room") == ["1", "2"])
    await renewals(a)


@pytest.mark.parametrize("name", ["p", "n", "o", "k"])
async def test_presence_replaces_keys_of_a_wrong_type(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, name: str
) -> None:
    key = f"{nodes.prefix}:{{room}}:{name}"
    redis_server.command("SET", key, "a text")
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    assert await a.backend.enter_nowait("room", announced("c1", "alice")) is True
    assert await a.backend.enter_nowait("room", announced("c2", "bob")) is True
    assert await b.backend.enter_nowait("room", announced("c3", "carol")) is True
    await wait_until(lambda: len(b.texts("room")) == 3)
    redis_server.command("SET", key, "a text")
    await a.backend.leave_nowait("room", announced("c2", "bob"), grace=False)
    await renewals(a, b)
    await wait_for_result(lambda: b.backend.members("room"), ["alice", "carol"])
    await publish_all(a, "marker")
    await wait_until(lambda: b.got_last("room", "marker"))
    # NOTE: after a loss, the announcements of users wait until other nodes have sent their lists.
    assert sorted(b.texts("room")[:3]) == ["alice joined", "bob joined", "carol joined"]
    assert set(b.texts("room")[3:]) <= {"bob left", "marker"}
    assert b.history_losses == []


async def test_a_room_whose_last_leave_finds_a_broken_key_is_not_in_use_any_more(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    redis_server.command("DEL", f"{nodes.prefix}:{{room}}:p")
    redis_server.command("SET", f"{nodes.prefix}:{{room}}:p", "a text")
    assert await b.backend.rooms("") == ["room"]
    await a.backend.leave_nowait("room", announced("c1", "alice"), grace=False)
    nothing: list[str] = []
    await wait_for_result(lambda: b.backend.rooms(""), nothing)
    assert a.redis.presence.rooms == {}
    assert await b.backend.members("room") == []


class Chat(WebSocketResource):
    history = History(messages=50, seconds=60.0, room_bytes=20_000)

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        return await self.join_room("room")

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, str]) -> None:
        await self.broadcast_to_room("room", {"type": "said", "payload": payload})


def serve_chat(server: RedisServer) -> AbstractAsyncContextManager[Served]:
    """Serve a node of a chat over sockets."""
    app = install(falcon.asgi.App(), backend=backend_from_url(server.url, prefix="chat"))
    app.add_websocket_route("/", Chat)
    return serve(app, ws=PushProtocol)


async def say(sender: Client, *receivers: Client, text: str = "hello") -> str:
    """Send a message, wait until all have received it, and return its position."""
    await sender.send("say", {"text": text})
    received = [await each.receive() for each in (sender, *receivers)]
    assert [message["type"] for message in received] == ["said"] * len(received)
    assert {message["payload"]["text"] for message in received} == {text}
    return str(received[0]["id"])


async def reconnect(node: Served, since: str) -> tuple[int, bool]:
    """Connect with a position; return the number of missed messages, and ``recovered``."""
    async with node.connect(f"/?since={since}") as client:
        for count in itertools.count():
            message = await client.receive()
            if message["type"] == "serverPosition":
                return count, message["payload"]["recovered"]
    raise AssertionError


async def test_clients_at_maxmemory_receive_each_other_and_recover_what_is_kept(
    redis_server: RedisServer,
) -> None:
    async with (
        serve_chat(redis_server) as one,
        serve_chat(redis_server) as two,
        one.connect("/") as alice,
        two.connect("/") as bob,
    ):
        for client in (alice, bob):
            assert (await client.receive())["type"] == "serverPosition"
        first = await say(alice, bob)
        await say(bob, alice)
        redis_server.command("CONFIG", "SET", "maxmemory", 1)
        for number in range(5):
            last = await say(alice, bob, text=str(number))
        assert await reconnect(two, last) == (0, True)
        redis_server.command("CONFIG", "SET", "maxmemory", 0)
        assert await reconnect(two, first) == (0, False)
        await say(bob, alice)
        assert await reconnect(one, last) == (1, True)
        assert await reconnect(one, first) == (0, False)


async def test_clients_recover_within_the_bytes_of_a_room(redis_server: RedisServer) -> None:
    async with (
        serve_chat(redis_server) as one,
        serve_chat(redis_server) as two,
        one.connect("/") as alice,
        two.connect("/") as bob,
    ):
        for client in (alice, bob):
            assert (await client.receive())["type"] == "serverPosition"
        # NOTE: JSON escapes a control character with six bytes.
        positions = [await say(alice, bob, text="\x01" * 500) for _ in range(20)]
        assert await reconnect(two, positions[10]) == (0, False)
        assert await reconnect(two, positions[15]) == (4, True)
        last = await say(alice, bob, text="\x01" * 4_000)
        assert await reconnect(one, positions[-1]) == (0, False)
        assert await reconnect(one, last) == (0, True)

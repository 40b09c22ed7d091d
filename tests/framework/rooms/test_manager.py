"""The connection manager in one process and on two nodes over Redis, from the clients' point of view."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import (
    History,
    Limits,
    WebSocketLike,
    WebSocketResource,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.testing import serve
from falcon_pachinko.uvicorn import PushProtocol

from ..support.backends import TIMING, WAIT_SECONDS, prefixes, wait_until
from ..support.chat_cluster import ChatCluster, ChatRoom, message, received, running_chat
from ..support.redis_servers import RedisServer

pytestmark = pytest.mark.redis


@pytest.fixture
async def two_nodes(redis_server: RedisServer) -> AsyncIterator[ChatCluster]:
    async with running_chat(redis_server) as cluster:
        yield cluster


async def test_members_on_all_nodes_receive_a_broadcast(cluster: ChatCluster) -> None:
    alice, bob = await cluster.connect(0, "/chat/alice"), await cluster.connect(1, "/chat/bob")
    assert await received(alice, 1) == ["bob joined"]
    await bob.send("send", {})
    assert await received(alice, 1) == await received(bob, 1) == [message()]
    assert await cluster.manager(0).members("lobby") == ["alice", "bob"]
    assert await cluster.manager(1).get_rooms_by_prefix("lo") == ["lobby"]


async def test_members_are_counted_and_read_in_pages(cluster: ChatCluster) -> None:
    for name in ("alice", "bob", "cara"):
        await cluster.connect(0, f"/chat/{name}")
    manager = cluster.manager(1)
    assert await manager.occupancy("lobby") == 3
    page = await manager.members("lobby", limit=2)
    assert (page, page.total) == (["alice", "bob"], 3)
    assert await manager.members("lobby", after=page.cursor) == ["cara"]
    assert await manager.members("lobby", after="alice", limit=1) == ["bob"]
    with pytest.raises(LookupError, match="'dora'"):
        await manager.members("lobby", after="dora")
    with pytest.raises(ValueError, match="limit is 0"):
        await manager.members("lobby", limit=0)


async def test_excluded_recipients_are_excluded_on_every_node(cluster: ChatCluster) -> None:
    alice, tab = await cluster.connect(0, "/chat/alice"), await cluster.connect(1, "/chat/alice")
    bob = await cluster.connect(1, "/chat/bob")
    for client in (alice, tab):
        assert await received(client, 1) == ["bob joined"]
    await alice.send("send", {"exclude_self": True})
    await alice.send("send", {"exclude_user": True})
    await alice.send("send", {"ephemeral": True})
    assert await received(bob, 3) == [
        message(exclude_self=True),
        message(exclude_user=True),
        message(ephemeral=True),
    ]
    assert await received(tab, 2) == [message(exclude_self=True), message(ephemeral=True)]
    assert await received(alice, 1) == [message(ephemeral=True)]


async def test_a_user_is_reached_and_disconnected_on_every_node(cluster: ChatCluster) -> None:
    alice, tab = await cluster.connect(0, "/chat/alice"), await cluster.connect(1, "/chat/alice")
    bob = await cluster.connect(0, "/chat/bob")
    for client in (alice, tab):
        assert await received(client, 1) == ["bob joined"]
    for number in (0, 1):
        await cluster.manager(number).send_to_user("alice", {"type": "hi", "number": number})
    await cluster.manager(1).broadcast_to_all("all")
    for client in (alice, tab):
        assert await received(client, 3) == [
            {"type": "hi", "number": 0},
            {"type": "hi", "number": 1},
            "all",
        ]
    assert await received(bob, 1) == ["all"]
    await cluster.manager(0).disconnect_user("alice", 4001, "bye")
    for client in (alice, tab):
        assert await client.wait_closed() == (4001, "bye")
    assert await received(bob, 1) == ["alice left"]
    with pytest.raises(ValueError, match="999"):
        await cluster.manager(0).disconnect_user("bob", 999)


async def test_a_room_can_be_closed_on_all_nodes(cluster: ChatCluster) -> None:
    alice, bob = await cluster.connect(0, "/chat/alice"), await cluster.connect(1, "/chat/bob")
    await cluster.manager(0).broadcast_to_room("lobby", "the last message")
    await cluster.manager(0).close_room("lobby", 4002, "closed")
    assert await received(bob, 1) == ["the last message"]
    assert await received(alice, 2) == ["bob joined", "the last message"]
    for client in (alice, bob):
        assert await client.wait_closed() == (4002, "closed")


async def test_a_connection_is_reached_by_its_id_from_every_node(cluster: ChatCluster) -> None:
    alice = await cluster.connect(0, "/chat/alice")
    manager = cluster.manager(0)
    await wait_until(lambda: len(manager) == 1)
    [connection] = manager
    for number in (0, 1):
        assert await cluster.manager(number).send_to_connection(connection.id, number) is True
    assert await received(alice, 2) == [0, 1]
    for unknown in (connection.id + "x", "unknown", ""):
        assert await manager.send_to_connection(unknown, 0) is False


async def test_a_join_sends_the_position_from_which_messages_continue(cluster: ChatCluster) -> None:
    alice = await cluster.connect(0, "/history/alice")
    position = await alice.receive()
    assert position["type"] == "serverPosition"
    assert position["payload"].keys() == {"connection", "heartbeatSeconds"}
    await alice.send("send", {})
    got = await alice.receive()
    epoch, _, offset = got["id"].partition(":")
    known_epoch, _, known_offset = position["id"].partition(":")
    # NOTE: the join message has a position, too, although alice does not receive it.
    assert (epoch, int(offset)) == (known_epoch, int(known_offset) + 2)


async def test_a_client_that_reconnects_to_another_node_gets_missed_messages_except_its_own(
    cluster: ChatCluster,
) -> None:
    alice, bob = (
        await cluster.connect(0, "/history/alice"),
        await cluster.connect(1, "/history/bob"),
    )
    connection = (await bob.receive())["payload"]["connection"]
    known = (await alice.receive())["id"]
    assert known
    last = None
    for number in range(5):
        await bob.send("send", {"exclude_self": number % 2 == 1})
        last = await alice.receive()
        while last == "bob joined":
            last = await alice.receive()
    first = await bob.receive()
    bob.vanish()
    await alice.send("send", {"ephemeral": True})
    reconnected = await cluster.connect(
        0, f"/history/bob?since={first['id']}&connection={connection}&connection=a-later-one"
    )
    missed = await reconnected.receive_until("serverPosition")
    assert [each["payload"] for each in missed[:-1]] == [{"exclude_self": False}] * 2
    assert missed[-1]["payload"]["recovered"] is True
    offsets = [int(each["id"].partition(":")[2]) for each in missed]
    assert offsets == sorted(offsets)
    assert missed[-1]["id"] == missed[-2]["id"]


@pytest.mark.parametrize(
    "since", ["", "nonsense", "0123456789abcdef:1", ":", "a:b", "a:-1", "a:" + "9" * 100, "%00:1"]
)
async def test_an_unknown_position_is_reported_as_not_recovered(
    cluster: ChatCluster, since: str
) -> None:
    alice = await cluster.connect(0, "/history/alice")
    await alice.receive()
    await alice.send("send", {})
    await alice.receive()
    reconnected = await cluster.connect(1, f"/history/bob?since={since}&connection=x")
    got = await reconnected.receive()
    assert got["type"] == "serverPosition"
    if since:
        assert got["payload"]["recovered"] is False


async def test_missing_more_than_the_history_is_reported_as_not_recovered(
    cluster: ChatCluster,
) -> None:
    alice = await cluster.connect(0, "/history/alice")
    known = (await alice.receive())["id"]
    for _ in range(51):
        await cluster.manager(1).broadcast_to_room("lobby", message())
        await alice.receive()
    reconnected = await cluster.connect(1, f"/history/bob?since={known}")
    got = await reconnected.receive()
    assert got["payload"]["recovered"] is False
    assert got["id"].partition(":")[0] == known.partition(":")[0]


async def test_a_history_above_the_outbox_limit_is_not_sent_in_part(cluster: ChatCluster) -> None:
    alice = await cluster.connect(0, "/history/alice")
    known = (await alice.receive())["id"]
    for _ in range(10):
        await cluster.manager(0).broadcast_to_room("lobby", message(text="x" * 60_000))
        await alice.receive()
    reconnected = await cluster.connect(0, f"/history/bob?since={known}")
    assert (await reconnected.receive())["payload"]["recovered"] is False


async def test_the_histories_of_many_rooms_share_one_bound() -> None:
    rooms = [f"room {number}" for number in range(4)]

    class AllRooms(WebSocketResource):
        limits = Limits(outbox_messages=50)
        history = History(messages=50, seconds=60.0)

        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
        ) -> bool:
            for room in rooms:
                await self.join_room(room)
            return True

    app = install(falcon.asgi.App())
    app.add_websocket_route("/rooms", AllRooms)
    async with serve(app, ws=PushProtocol) as served:
        async with served.connect("/rooms") as alice:
            known = [(await alice.receive())["id"] for _ in rooms]
            for room in rooms:
                for _ in range(20):
                    await app.ws_connection_manager.broadcast_to_room(room, message())
                    await alice.receive()
        query = "&".join(f"since={position}" for position in known)
        async with served.connect(f"/rooms?{query}") as reconnected:
            messages = [await reconnected.receive() for _ in range(20 + len(rooms))]
    recovered = [each["payload"].get("recovered") for each in messages]
    assert recovered == [None] * 20 + [True, False, False, False]


async def test_a_user_name_that_redis_cannot_store_affects_no_other_client(
    two_nodes: ChatCluster,
) -> None:
    manager = two_nodes.manager(0)
    assert two_nodes.redis_server is not None
    two_nodes.redis_server.pause()
    try:
        await wait_until(lambda: manager.backend.outage != "")
        alice = await two_nodes.connect(0, "/history/alice")
        connection = next(iter(manager))
        connection.user = "\ud800"
        with pytest.raises(ValueError, match="not valid Unicode"):
            await manager.join_room(connection, "kitchen")
    finally:
        two_nodes.redis_server.resume()
    assert "connection" in (await alice.receive())["payload"]
    await wait_until(lambda: manager.backend.outage == "")


async def test_a_reconnecting_client_is_authorized_again(redis_server: RedisServer) -> None:
    class Guarded(ChatRoom):
        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
        ) -> bool:
            await super().on_connect(req, ws, *args, **params)
            return bool(params["name"] != "barred")

    app = install(
        falcon.asgi.App(), backend=backend_from_url(redis_server.url, prefix=next(prefixes))
    )
    app.add_websocket_route("/history/{name}", Guarded)
    async with serve(app, ws=PushProtocol) as served:
        async with served.connect("/history/alice") as alice:
            known = (await alice.receive())["id"]
            await alice.send("send", {})
            await alice.receive()
            with pytest.raises(Exception, match="403"):
                async with served.connect(f"/history/barred?since={known}"):
                    pass
        assert await app.ws_connection_manager.members("lobby") == ["alice"]


async def test_a_client_gets_an_error_if_a_broadcast_of_its_handler_may_be_lost(
    two_nodes: ChatCluster,
) -> None:
    alice = await two_nodes.connect(0, "/chat/alice")
    assert two_nodes.redis_server is not None
    two_nodes.redis_server.pause()
    try:
        await wait_until(lambda: two_nodes.manager(0).backend.outage != "")
        await alice.send("send", {})
        error = await alice.receive()
    finally:
        two_nodes.redis_server.resume()
    assert error["type"] == "serverError"
    assert error["payload"]["code"] == "unavailable"
    await wait_until(lambda: two_nodes.manager(0).backend.outage == "")
    await alice.send("send", {})
    assert await received(alice, 1) == [message()]


async def test_a_client_that_joins_during_an_outage_gets_all_messages_after_it(
    two_nodes: ChatCluster,
) -> None:
    alice = await two_nodes.connect(0, "/history/alice")
    known = (await alice.receive())["id"]
    await alice.send("send", {})
    first = await alice.receive()
    assert two_nodes.redis_server is not None
    two_nodes.redis_server.pause()
    try:
        await wait_until(lambda: all(manager.backend.outage for _, manager in two_nodes.nodes))
        bob = await two_nodes.connect(1, "/history/bob")
        reconnected = await two_nodes.connect(1, f"/history/carol?since={known}")
    finally:
        two_nodes.redis_server.resume()
    assert (await bob.receive())["payload"].keys() == {"connection", "heartbeatSeconds"}
    assert await reconnected.receive() == "alice joined"
    assert await reconnected.receive() == first
    position = await reconnected.receive()
    while isinstance(position, str):  # announced before the position was read
        position = await reconnected.receive()
    assert position["payload"]["recovered"] is True
    names = {await alice.receive(), await alice.receive()}
    assert names == {"bob joined", "carol joined"}


async def test_an_outage_that_ends_between_two_joins_loses_no_missed_messages(
    redis_server: RedisServer,
) -> None:
    has_joined_first, may_continue = asyncio.Event(), asyncio.Event()

    class TwoRooms(WebSocketResource):
        history = History(messages=50, seconds=60.0)

        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
        ) -> bool:
            await self.join_room("lobby")
            has_joined_first.set()
            await may_continue.wait()
            await self.join_room("kitchen")
            return True

    backend = backend_from_url(redis_server.url, prefix=next(prefixes), timing=TIMING)
    app = install(falcon.asgi.App(), backend=backend)
    app.add_websocket_route("/rooms", TwoRooms)
    async with serve(app, ws=PushProtocol) as served:
        may_continue.set()
        async with served.connect("/rooms") as alice:
            known = [(await alice.receive())["id"] for _ in range(2)]
            for room in ("lobby", "kitchen"):
                await app.ws_connection_manager.broadcast_to_room(room, message(room=room))
            missed = [await alice.receive() for _ in range(2)]
            has_joined_first.clear()
            may_continue.clear()

            async def reconnect() -> list[Any]:
                query = "&".join(f"since={position}" for position in known)
                async with served.connect(f"/rooms?{query}") as reconnected:
                    return [await reconnected.receive() for _ in range(4)]

            redis_server.pause()
            try:
                await wait_until(lambda: backend.outage != "")
                reconnecting = asyncio.create_task(reconnect())
                await asyncio.wait_for(has_joined_first.wait(), WAIT_SECONDS)
            finally:
                redis_server.resume()
            await wait_until(lambda: backend.outage == "")
            may_continue.set()
            messages = await reconnecting
    assert messages[::2] == missed
    assert [each["id"] for each in messages[1::2]] == [each["id"] for each in missed]
    assert [each["payload"]["recovered"] for each in messages[1::2]] == [True, True]

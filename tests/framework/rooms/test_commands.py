"""Commands that close connections, on one process and on two nodes over Redis."""

import asyncio
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import WebSocketLike, WebSocketResource, install
from falcon_pachinko.publication import Publication
from falcon_pachinko.testing import Served, serve
from falcon_pachinko.uvicorn import PushProtocol

from ..support.backends import wait_until
from ..support.chat_cluster import ChatCluster

pytestmark = pytest.mark.redis


async def test_p6_the_connections_of_a_user_are_closed_on_all_nodes(cluster: ChatCluster) -> None:
    bobs = [await cluster.connect(number, "/chat/bob") for number in (0, 1)]
    alice = await cluster.connect(1, "/chat/alice")
    async with asyncio.timeout(1.0):
        await cluster.manager(0).disconnect_user("bob", 4403, "spam")
    assert [(await bob.wait_closed())[0] for bob in bobs] == [4403, 4403]
    await alice.send("send", {})


async def test_p6_a_room_is_closed_on_all_nodes(cluster: ChatCluster) -> None:
    clients = [await cluster.connect(number, f"/chat/user{number}") for number in (0, 1)]
    async with asyncio.timeout(1.0):
        await cluster.manager(1).close_room("lobby", 4000, "closing")
    assert [(await client.wait_closed())[0] for client in clients] == [4000, 4000]


class SlowRoom(WebSocketResource):
    """A resource whose ``on_connect`` goes on after it has joined the room."""

    joined = asyncio.Event()
    may_accept = asyncio.Event()

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        self.connection.user = "bob"
        await self.join_room("lobby")
        self.joined.set()
        await self.may_accept.wait()
        return True


async def test_p6_a_connection_that_is_joining_is_closed_with_its_room() -> None:
    SlowRoom.joined, SlowRoom.may_accept = asyncio.Event(), asyncio.Event()
    app = install(falcon.asgi.App())
    app.add_websocket_route("/slow", SlowRoom)
    async with serve(app, ws=PushProtocol) as served:
        connecting = asyncio.ensure_future(connect_code(served))
        await SlowRoom.joined.wait()
        await app.ws_connection_manager.close_room("lobby", 4000, "closing")
        SlowRoom.may_accept.set()
        assert await connecting == "refused"
        assert len(app.ws_connection_manager) == 0


async def connect_code(served: Served) -> str:
    """Return how an attempt to connect ends."""
    try:
        async with served.connect("/slow"):
            return "accepted"
    except Exception:
        return "refused"


async def test_p6_a_late_command_spares_those_who_came_after_it(cluster: ChatCluster) -> None:
    manager = cluster.manager(0)
    early = await cluster.connect(0, "/chat/bob")
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    await wait_until(lambda: loop.time() - sent_at > 0.05)
    late = await cluster.connect(0, "/chat/bob")
    age_seconds = loop.time() - sent_at
    manager._registry.execute(Publication.close(4403, "spam", user="bob"), None, age_seconds)
    assert (await early.wait_closed())[0] == 4403
    await late.send("send", {})
    manager._registry.execute(Publication.close(4000, "closing"), "lobby", age_seconds)
    await late.send("send", {})
    manager._registry.execute(Publication.close(4000, "closing"), "lobby", 0.0)
    assert (await late.wait_closed())[0] == 4000

"""Large rooms over real sockets on each ASGI server; here a room with more than three users is large."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import falcon.asgi
import pytest
from websockets.asyncio.client import ClientConnection, connect

from falcon_pachinko import (
    App,
    PresenceBatch,
    RouteConfig,
    WebSocketLike,
    WebSocketResource,
    install,
)
from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.timing import Timing

from ..support.servers import SERVERS, WAIT_SECONDS

BATCH = PresenceBatch(above=3, seconds=0.05)


class Room(WebSocketResource):
    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.connection.user = name
        is_new = await self.join_room("room", join_message=f"+{name}", leave_message=f"-{name}")
        page = await self.manager.members("room", limit=BATCH.above)
        await ws.send_media({"users": page, "count": page.total + is_new})
        return True


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App(), backend=MemoryBackend(Timing(grace_seconds=0.05)))
    app.add_websocket_route("/{name}", Room, route_config=RouteConfig(presence_batch=BATCH))
    return app


async def changes_until(client: ClientConnection, count: int) -> list[Any]:
    """Return the messages up to a change with a number of users."""
    found: list[Any] = []
    async with asyncio.timeout(WAIT_SECONDS):
        while not found or found[-1]["payload"]["count"] != count:
            found.append(json.loads(await client.recv()))
            assert found[-1]["type"] == "serverPresenceChanged"
    return found


@pytest.mark.parametrize("server", SERVERS)
async def test_users_of_a_large_room_join_and_leave_together(server: str, app: App) -> None:
    names = [f"user{number}" for number in range(12)]
    async with SERVERS[server](app) as endpoint, contextlib.AsyncExitStack() as stack:
        clients = []
        for number, name in enumerate(names):
            client = await stack.enter_async_context(connect(endpoint.ws_url(f"/{name}")))
            state = json.loads(await client.recv())
            assert state == {"users": names[: min(number, BATCH.above)], "count": number + 1}
            clients.append(client)
        first, last = clients[0], clients[-1]
        assert [json.loads(await first.recv()) for _ in range(2)] == ["+user1", "+user2"]
        joined = await changes_until(first, len(names))
        payloads = [change["payload"] for change in joined]
        count = BATCH.above
        for payload in payloads:
            count += len(payload["joined"]) + payload.get("moreJoined", 0)
            assert payload["count"] == count
            assert payload["left"] == []
        await changes_until(last, len(names))

        for client in clients[2:]:
            client.transport.abort()
        users: list[str] = []
        async with asyncio.timeout(WAIT_SECONDS):
            while count != 2:
                message = json.loads(await first.recv())
                if isinstance(message, str):  # the room is no longer large
                    assert count <= BATCH.above
                    users.remove(message.removeprefix("-"))
                    count = len(users)
                else:
                    count = message["payload"]["count"]
                    users = [user["user"] for user in message["payload"].get("users", [])]
        assert users == ["user0", "user1"]
        await clients[1].close()
        assert json.loads(await first.recv()) == "-user1"

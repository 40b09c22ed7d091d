"""Activities such as typing: repeated and ended by the framework, whatever a client does."""

import asyncio
from typing import Any, ClassVar

import falcon.asgi
import pytest

from falcon_pachinko import (
    Activity,
    History,
    Message,
    WebSocketLike,
    WebSocketResource,
    handles_message,
)
from falcon_pachinko.testing import Client

from ..support.chat_cluster import ChatCluster

pytestmark = pytest.mark.redis

REPEAT_SECONDS = 0.3
EXPIRY_SECONDS = 0.6


class ServerTyping(Message, frozen=True):
    user: str
    on: bool


class TypingChat(WebSocketResource):
    history: ClassVar[History | None] = History()
    typing: Activity

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, name: str) -> bool:
        self.connection.user = name
        await self.join_room("lobby")
        self.typing = self.activity(
            "lobby",
            started=ServerTyping(user=name, on=True),
            ended=ServerTyping(user=name, on=False),
            repeat_seconds=REPEAT_SECONDS,
            expiry_seconds=EXPIRY_SECONDS,
        )
        return True

    @handles_message("type")
    async def report(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.typing.report()

    @handles_message("stop")
    async def stop(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.typing.end()


@pytest.fixture
async def pair(cluster: ChatCluster) -> tuple[Client, Client]:
    """A client on each of two nodes."""
    for served, _ in cluster.nodes:
        app: Any = served.server.config.app
        app.add_websocket_route("/typing/{name}", TypingChat)
    clients = []
    for node, name in enumerate(("alice", "bob")):
        client = await cluster.connect(node, f"/typing/{name}")
        await client.receive_until("serverPosition")
        clients.append(client)
    return clients[0], clients[1]


async def is_typing(client: Client) -> bool:
    """Return the next news of Alice."""
    message = await client.receive(ServerTyping)
    assert message.user == "alice"
    return message.on


async def test_reports_are_sent_once_and_repeated_while_they_go_on(
    pair: tuple[Client, Client],
) -> None:
    alice, bob = pair
    loop = asyncio.get_running_loop()
    started = loop.time()
    count = 0
    while loop.time() - started < 4 * REPEAT_SECONDS:
        await alice.send("type", {})
        await asyncio.sleep(REPEAT_SECONDS / 10)
        count += 1
    await alice.send("stop", {})
    found: list[bool] = []
    while not found or found[-1]:
        found.append(await is_typing(bob))
    assert found[0]
    assert 2 <= len(found) - 1 <= 5 < count
    assert "typing" not in repr(alice.recent_messages)


async def test_it_ends_without_a_further_report(pair: tuple[Client, Client]) -> None:
    alice, bob = pair
    await alice.send("type", {})
    assert await is_typing(bob)
    assert not await is_typing(bob)
    await alice.send("type", {})
    assert await is_typing(bob)


async def test_it_ends_with_the_connection(pair: tuple[Client, Client]) -> None:
    alice, bob = pair
    await alice.send("type", {})
    assert await is_typing(bob)
    alice.vanish()
    assert not await is_typing(bob)


async def test_an_end_without_a_beginning_is_not_sent(pair: tuple[Client, Client]) -> None:
    alice, bob = pair
    await alice.send("stop", {})
    await alice.send("type", {})
    await alice.send("stop", {})
    await alice.send("stop", {})
    await alice.send("type", {})
    assert [await is_typing(bob) for _ in range(3)] == [True, False, True]


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
async def test_a_time_that_cannot_be_used_is_refused(cluster: ChatCluster, seconds: float) -> None:
    resource = WebSocketResource()
    resource.manager = cluster.manager(0)
    await cluster.connect(0, "/history/alice")
    (resource.connection,) = cluster.manager(0)
    for name in ("repeat", "expiry"):
        with pytest.raises(ValueError, match=f"{name}_seconds is {seconds!r}"):
            resource.activity("lobby", "on", "off", **{f"{name}_seconds": seconds})

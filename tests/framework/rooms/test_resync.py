"""P4, snapshot and stream agree: the list of members that a client keeps, through outages and restarts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import History, WebSocketLike, WebSocketResource, install
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.testing import Client, serve
from falcon_pachinko.uvicorn import PushProtocol

from ..support.backends import TIMING, WAIT_SECONDS, prefixes, wait_until
from ..support.redis_servers import RedisServer, running_redis

pytestmark = pytest.mark.redis


class ListRoom(WebSocketResource):
    """A room whose clients keep the list of its members."""

    history = History(messages=50, seconds=60.0)

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.connection.user = name
        await self.join_room(
            "lobby",
            join_message={"type": "joined", "user": name},
            leave_message={"type": "left", "user": name},
        )
        await self.send_list(ws)
        return True

    async def on_resync(self, ws: WebSocketLike, room: str) -> None:
        await self.send_list(ws)

    async def send_list(self, ws: WebSocketLike) -> None:
        users = await self.room_members("lobby")
        await ws.send_media({"type": "list", "users": sorted({*users, self.connection.user})})


class Page:
    """A client that keeps the list, and all messages."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.users: set[str] = set()
        self.messages: list[Any] = []
        self.position = ""

    async def read(self) -> None:
        """Read one message."""
        message = await self.client.receive(timeout_seconds=WAIT_SECONDS)
        self.messages.append(message)
        self.position = message.get("id", self.position)
        match message["type"]:
            case "list":
                self.users = set(message["users"])
            case "joined":
                self.users.add(message["user"])
            case "left":
                self.users.discard(message["user"])

    async def wait_users(self, *users: str) -> None:
        """Read until the list has these users."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.users != set(users):
                await self.read()

    async def wait_position(self) -> str:
        """Read until the server has sent a position, and return it."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not self.position:
                await self.read()
        return self.position

    def announced(self) -> list[str]:
        """Return the joins and leaves."""
        kinds = {"joined": "+", "left": "-"}
        return [kinds[m["type"]] + m["user"] for m in self.messages if m["type"] in kinds]


class ListCluster:
    """Nodes with pages."""

    def __init__(self, url: str, timing: Timing, stack: AsyncExitStack) -> None:
        self.url, self.timing, self.stack = url, timing, stack
        self.prefix = next(prefixes)
        self.nodes: list[Any] = []

    async def start(self) -> None:
        """Start a node."""
        backend = backend_from_url(self.url, prefix=self.prefix, timing=self.timing)
        app = install(falcon.asgi.App(), backend=backend)
        app.add_websocket_route("/{name}", ListRoom)
        served = await self.stack.enter_async_context(serve(app, ws=PushProtocol))
        self.nodes.append((served, backend))

    async def open(self, number: int, name: str, since: str = "") -> Page:
        """Connect a page."""
        query = f"?since={since}" if since else ""
        client = await self.stack.enter_async_context(
            self.nodes[number][0].connect(f"/{name}{query}")
        )
        return Page(client)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
async def cluster(redis_server: RedisServer) -> AsyncIterator[ListCluster]:
    async with AsyncExitStack() as stack:
        cluster = ListCluster(redis_server.url, TIMING, stack)
        await cluster.start()
        await cluster.start()
        yield cluster


async def test_p4_a_list_that_was_partial_during_an_outage_is_replaced_after_it(
    redis_server: RedisServer, cluster: ListCluster
) -> None:
    alice = await cluster.open(0, "alice")
    bob = await cluster.open(1, "bob")
    await alice.wait_users("alice", "bob")
    redis_server.pause()
    try:
        await wait_until(lambda: all(backend.outage for _, backend in cluster.nodes))
        carol = await cluster.open(1, "carol")
        await carol.wait_users("bob", "carol")
    finally:
        redis_server.resume()
    for page in (alice, bob, carol):
        await page.wait_users("alice", "bob", "carol")
    assert alice.announced() == ["+bob", "+carol"]


async def test_p4_and_p7_after_a_loss_of_all_data_the_lists_are_right_and_nobody_is_announced(
    redis_server: RedisServer, cluster: ListCluster
) -> None:
    pages = [await cluster.open(number % 2, f"user{number}") for number in range(4)]
    names = [f"user{number}" for number in range(4)]
    for page in pages:
        await page.wait_users(*names)
    for page in pages:
        page.messages.clear()
    redis_server.command("FLUSHALL")
    for page in pages:
        async with asyncio.timeout(WAIT_SECONDS):
            while {"list"} - {m["type"] for m in page.messages}:
                await page.read()
        await page.wait_users(*names)
        assert page.announced() == []
    late = await cluster.open(1, "late")
    await late.wait_users(*names, "late")
    for page in pages:
        await page.wait_users(*names, "late")
        assert page.announced() == ["+late"]


async def test_p4_a_list_contains_the_changes_that_were_held_back_during_the_handshake(
    cluster: ListCluster,
) -> None:
    pages = await asyncio.gather(*[cluster.open(n % 2, f"user{n}") for n in range(12)])
    names = [f"user{number}" for number in range(12)]
    for page in pages:
        await page.wait_users(*names)
        after_list = page.messages[[m["type"] for m in page.messages].index("list") :]
        users = set(after_list[0]["users"])
        for message in after_list:
            if message["type"] == "joined":
                assert message["user"] not in users
                users.add(message["user"])


async def test_p7_users_that_reconnect_after_a_restart_of_the_process_are_not_announced() -> None:
    timing = Timing(grace_seconds=1.0)
    async with AsyncExitStack() as stack:
        first = ListCluster("", timing, stack)
        await first.start()
        alice, bob = await first.open(0, "alice"), await first.open(0, "bob")
        await alice.wait_users("alice", "bob")
        positions = [await page.wait_position() for page in (alice, bob)]
        restarted = ListCluster("", timing, stack)
        await restarted.start()
        alice = await restarted.open(0, "alice", positions[0])
        await alice.wait_users("alice")
        bob = await restarted.open(0, "bob", positions[1])
        carol = await restarted.open(0, "carol")
        for page in (alice, bob, carol):
            await page.wait_users("alice", "bob", "carol")
        assert alice.announced() == ["+carol"]
        assert [m["type"] for m in alice.messages].count("list") == 2

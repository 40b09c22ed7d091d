"""P4, snapshot and stream agree: the list of members that a client keeps, through outages and restarts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
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

    def check_agreement(self) -> None:
        """Check that each join and leave after a list changes what it says."""
        users: set[str] | None = None
        for message in self.messages:
            if message["type"] == "list":
                users = set(message["users"])
            elif users is not None and message["type"] == "joined":
                assert message["user"] not in users, self.messages
                users.add(message["user"])
            elif users is not None and message["type"] == "left":
                assert message["user"] in users, self.messages
                users.remove(message["user"])


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
        served, _ = self.nodes[number % len(self.nodes)]
        return Page(await self.stack.enter_async_context(served.connect(f"/{name}{query}")))


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@asynccontextmanager
async def running_lists(url: str) -> AsyncIterator[ListCluster]:
    """Run two nodes over Redis, or one without it."""
    async with AsyncExitStack() as stack:
        cluster = ListCluster(url, TIMING, stack)
        for _ in range(2 if url else 1):
            await cluster.start()
        yield cluster


@pytest.fixture
async def cluster(redis_server: RedisServer) -> AsyncIterator[ListCluster]:
    async with running_lists(redis_server.url) as cluster:
        yield cluster


@pytest.fixture(params=["memory", "redis"])
async def any_cluster(request: pytest.FixtureRequest) -> AsyncIterator[ListCluster]:
    with_redis = request.param == "redis"
    async with running_lists(
        request.getfixturevalue("redis_server").url if with_redis else ""
    ) as cluster:
        yield cluster


@pytest.mark.parametrize("number", [0, 1], ids=["same node", "other node"])
async def test_p4_a_reconnecting_client_gets_what_it_missed_before_the_list_that_contains_it(
    any_cluster: ListCluster, number: int
) -> None:
    cluster = any_cluster
    alice, bob = await cluster.open(0, "alice"), await cluster.open(1, "bob")
    witness = await cluster.open(0, "witness")
    await alice.wait_users("alice", "bob", "witness")
    position = await alice.wait_position()
    await alice.client.close()
    await witness.wait_users("bob", "witness")
    carol, dora = await cluster.open(1, "carol"), await cluster.open(0, "dora")
    await witness.wait_users("bob", "witness", "carol", "dora")
    for page in (bob, dora):
        await page.client.close()
    await witness.wait_users("witness", "carol")
    alice = await cluster.open(number, "alice", position)
    await alice.wait_users("alice", "witness", "carol")
    await carol.client.close()
    await cluster.open(1, "erin")
    await alice.wait_users("alice", "witness", "erin")
    kinds = [message["type"] for message in alice.messages]
    recovery, listed = kinds.index("serverPosition"), kinds.index("list")
    assert recovery < listed
    assert alice.messages[recovery]["payload"]["recovered"] is True
    missed, later = Page(alice.client), Page(alice.client)
    missed.messages, later.messages = alice.messages[:listed], alice.messages[listed:]
    assert missed.announced()[:2] == ["+carol", "+dora"]
    assert sorted(missed.announced()[2:]) == ["-bob", "-dora"]
    assert sorted(later.announced()) == ["+erin", "-carol"]
    alice.check_agreement()


async def test_p4_lists_of_clients_that_reconnect_while_others_come_and_go_agree_with_their_streams(
    any_cluster: ListCluster,
) -> None:
    cluster = any_cluster
    pages = [await cluster.open(number, f"user{number}") for number in range(6)]
    for page in pages:
        await page.wait_users(*[f"user{number}" for number in range(6)])
    guests = [await cluster.open(number, f"guest{number}") for number in range(6)]
    for page in pages:
        await page.client.close()

    async def replace(number: int) -> Page:
        """Reconnect a page, and let a guest leave and another one join."""
        await guests[number].client.close()
        page, _ = await asyncio.gather(
            cluster.open(number, f"user{number}", pages[number].position),
            cluster.open(number + 1, f"late{number}"),
        )
        return page

    pages = await asyncio.gather(*[replace(number) for number in range(6)])
    names = [f"{kind}{number}" for kind in ("user", "late") for number in range(6)]
    for page in pages:
        await page.wait_users(*names)
    await cluster.open(0, "last")
    for page in pages:
        await page.wait_users(*names, "last")
        page.check_agreement()
        assert page.messages[-1]["user"] == "last"


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
        page.check_agreement()


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

"""Records of presence in resources: in one process, and on two nodes over Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import falcon.asgi
import msgspec
import pytest
from falcon import WebSocketDisconnected

from falcon_pachinko import (
    App,
    BackendUnavailable,
    History,
    Message,
    MessageError,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.testing import Client, Served, serve
from falcon_pachinko.uvicorn import PushProtocol

from ..support.backends import TIMING, prefixes, wait_for_result, wait_until
from ..support.redis_servers import RedisServer

pytestmark = pytest.mark.redis


class Status(msgspec.Struct, frozen=True):
    """What a connection shows to others."""

    text: str
    busy: bool = False


class ServerUserJoined(Message, frozen=True):
    """A user has joined."""

    user: str
    status: Status


class ServerStatusChanged(Message, frozen=True):
    """A user has another status."""

    user: str
    status: Status | None


class ServerRoomState(Message, frozen=True):
    """The users in the room with the status of each connection."""

    users: dict[str, list[Status]]


class Office(WebSocketResource):
    """A room in which each connection has a status."""

    history = History(messages=50, seconds=60.0)
    sends = (ServerUserJoined, ServerStatusChanged, ServerRoomState)

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, user: str) -> bool:
        self.connection.user = user
        status = Status("here")
        await self.join_room("office", meta=status, join_message=ServerUserJoined(user, status))
        if req.get_param_as_bool("late"):
            status = Status("late")
            message = ServerStatusChanged(user, status)
            await self.update_presence("office", status, message=message)
        return True

    @handles_message("set")
    async def set_status(self, ws: WebSocketLike, payload: Status) -> None:
        message = ServerStatusChanged(str(self.connection.user), payload)
        await self.update_presence("office", payload, message=message)

    @handles_message("clear")
    async def clear(self, ws: WebSocketLike, payload: Any) -> None:
        message = ServerStatusChanged(str(self.connection.user), None)
        await self.update_presence("office", None, message=message)

    @handles_message("setSilently")
    async def set_silently(self, ws: WebSocketLike, payload: Status) -> None:
        await self.update_presence("office", payload)

    @handles_message("leave")
    async def leave(self, ws: WebSocketLike, payload: Any) -> None:
        await self.leave_room("office")

    @handles_message("list")
    async def send_list(self, ws: WebSocketLike, payload: Any) -> None:
        page = await self.room_members("office")
        await ws.send_media(ServerRoomState(page.decode(Status)))


Connect = Callable[[int, str], Awaitable[Client]]


class Site:
    """One node, or two over Redis."""

    def __init__(self) -> None:
        self.nodes: list[tuple[App, Served]] = []
        self.stack = AsyncExitStack()

    async def start(self, url: str, prefix: str) -> None:
        """Start a node."""
        backend = backend_from_url(url, prefix=prefix, timing=TIMING)
        app = install(falcon.asgi.App(), backend=backend)
        app.add_websocket_route("/office/{user}", Office)
        served = await self.stack.enter_async_context(serve(app, ws=PushProtocol))
        self.nodes.append((app, served))

    async def connect(self, number: int, user: str) -> Client:
        """Connect a user to a node, and receive the position."""
        _, served = self.nodes[number % len(self.nodes)]
        client = await self.stack.enter_async_context(served.connect(f"/office/{user}"))
        assert (await client.receive())["type"] == "serverPosition"
        return client

    def app(self, number: int) -> App:
        return self.nodes[number % len(self.nodes)][0]

    async def statuses(self, number: int) -> dict[str, list[str]]:
        """Return the texts in the list of a node."""
        page = await self.app(number).ws_connection_manager.members("office")
        return {user: [each.text for each in found] for user, found in page.decode(Status).items()}


@pytest.fixture(params=["memory", "redis"])
async def site(request: pytest.FixtureRequest, redis_server: RedisServer) -> AsyncIterator[Site]:
    site, prefix = Site(), next(prefixes)
    async with site.stack:
        for _ in range(1 if request.param == "memory" else 2):
            await site.start("" if request.param == "memory" else redis_server.url, prefix)
        yield site


async def payload(client: Client, message_type: str) -> Any:
    """Receive a message of a type and return its payload."""
    message = await client.receive()
    assert message["type"] == message_type
    return message["payload"]


async def test_the_others_receive_the_message_and_all_nodes_list_the_record(site: Site) -> None:
    alice, bob = await site.connect(0, "alice"), await site.connect(1, "bob")
    assert (await payload(alice, "serverUserJoined"))["status"]["text"] == "here"
    await alice.send("set", {"text": "away", "busy": True})
    changed = await bob.receive()
    status = {"text": "away", "busy": True}
    assert changed["payload"] == {"user": "alice", "status": status}
    assert changed["id"].endswith(":3")
    for client in (alice, bob):
        await client.send("list")
        users = (await payload(client, "serverRoomState"))["users"]
        assert users == {"alice": [status], "bob": [{"text": "here", "busy": False}]}
    await alice.send("clear")
    assert (await payload(bob, "serverStatusChanged"))["status"] is None
    assert await site.statuses(1) == {"alice": [], "bob": ["here"]}


async def test_another_tab_of_the_user_receives_the_message_and_has_its_own_record(
    site: Site,
) -> None:
    first, second = await site.connect(0, "alice"), await site.connect(1, "alice")
    await first.send("set", {"text": "away"})
    assert (await payload(second, "serverStatusChanged"))["user"] == "alice"
    assert sorted((await site.statuses(1))["alice"]) == ["away", "here"]
    await second.close()
    await wait_for_result(lambda: site.statuses(0), {"alice": ["away"]})


async def test_an_update_without_a_message_sends_nothing(site: Site) -> None:
    alice, bob = await site.connect(0, "alice"), await site.connect(1, "bob")
    await alice.send("setSilently", {"text": "hidden"})
    await wait_for_result(lambda: site.statuses(1), {"alice": ["hidden"], "bob": ["here"]})
    await alice.send("set", {"text": "away"})
    assert (await payload(bob, "serverStatusChanged"))["status"]["text"] == "away"


async def test_an_update_in_on_connect_is_sent_after_the_accept(site: Site) -> None:
    alice = await site.connect(0, "alice")
    await site.connect(1, "bob?late=true")
    assert (await payload(alice, "serverUserJoined"))["status"]["text"] == "here"
    assert (await payload(alice, "serverStatusChanged"))["status"]["text"] == "late"
    assert await site.statuses(0) == {"alice": ["here"], "bob": ["late"]}


async def test_a_record_that_is_too_large_is_refused_and_nothing_changes(site: Site) -> None:
    alice = await site.connect(0, "alice")
    await alice.send("set", {"text": "x" * 1_100})
    refused = await payload(alice, "serverError")
    assert refused["code"] == "recordTooLarge"
    assert "at most 1024" in refused["error"]
    await alice.send("set", {"text": "x" * 900})
    await wait_for_result(lambda: site.statuses(0), {"alice": ["x" * 900]})


async def test_a_connection_that_is_not_in_the_room_is_refused(site: Site) -> None:
    alice = await site.connect(0, "alice")
    await alice.send("leave")
    manager = site.app(0).ws_connection_manager
    await wait_for_result(lambda: manager.occupancy("office"), 0)
    (connection,) = manager
    with pytest.raises(LookupError, match="'office'"):
        await manager.update_presence(connection, "office", "away")
    await manager.join_room(connection, "office", meta={"text": "again"})
    with pytest.raises(MessageError, match="too large"):
        await manager.update_presence(connection, "office", "x" * 1_100)
    with pytest.raises(TypeError):
        await manager.update_presence(connection, "office", Status("lost"), message=object())
    assert await site.statuses(1) == {"alice": ["again"]}
    await alice.close()
    await wait_until(lambda: not len(manager))
    with pytest.raises((LookupError, WebSocketDisconnected)):
        await manager.update_presence(connection, "office", "away")


async def test_the_number_of_users_is_read_alone(site: Site) -> None:
    for number, user in enumerate(("alice", "bob", "alice")):
        await site.connect(number, user)
    for number in (0, 1):
        assert await site.app(number).ws_connection_manager.occupancy("office") == 2


@pytest.mark.parametrize("site", ["redis"], indirect=True)
async def test_during_an_outage_the_record_is_kept_and_the_message_is_answered_with_an_error(
    site: Site, redis_server: RedisServer
) -> None:
    alice, bob = await site.connect(0, "alice"), await site.connect(1, "bob")
    assert (await payload(alice, "serverUserJoined"))["user"] == "bob"
    backends = [site.app(number).ws_connection_manager.backend for number in (0, 1)]
    redis_server.pause()
    try:
        await wait_until(lambda: all(backend.outage for backend in backends))
        manager = site.app(0).ws_connection_manager
        (connection,) = manager
        await manager.update_presence(connection, "office", Status("silent"))
        assert await site.statuses(0) == {"alice": ["silent"]}
        with pytest.raises(BackendUnavailable):
            await manager.update_presence(connection, "office", Status("kept"), message="lost")
        await alice.send("set", {"text": "away"})
        assert (await payload(alice, "serverError"))["code"] == "unavailable"
    finally:
        redis_server.resume()
    await wait_until(lambda: not any(backend.outage for backend in backends))
    async with asyncio.timeout(TIMING.renewal_seconds + 2):
        await wait_for_result(lambda: site.statuses(1), {"alice": ["away"], "bob": ["here"]})
    await alice.send("set", {"text": "back"})
    assert (await payload(bob, "serverStatusChanged"))["status"]["text"] == "back"


@pytest.mark.parametrize("site", ["redis"], indirect=True)
async def test_the_records_survive_the_loss_of_all_data(
    site: Site, redis_server: RedisServer
) -> None:
    alice, bob = await site.connect(0, "alice"), await site.connect(1, "bob")
    await alice.send("set", {"text": "away"})
    assert (await payload(bob, "serverStatusChanged"))["user"] == "alice"
    redis_server.command("FLUSHALL")
    expected = {"alice": ["away"], "bob": ["here"]}
    for number in (0, 1):
        async with asyncio.timeout(TIMING.renewal_seconds + 2):
            await wait_for_result(lambda number=number: site.statuses(number), expected)  # type: ignore[misc]

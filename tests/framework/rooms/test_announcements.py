"""Joins and leaves in a large room: sent together, at their place among all other messages of a client.

The clock is virtual: it stands still while any callback can run, so an announcement waits until a test lets time pass.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import falcon.asgi
import pytest
import uvicorn
from msgspec import UNSET

from falcon_pachinko import History, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.rooms import announcements
from falcon_pachinko.rooms.announcements import (
    MAX_ANNOUNCEMENTS,
    MAX_SECONDS,
    MIN_SECONDS,
    SECONDS_PER_MEMBER,
)
from falcon_pachinko.rooms.recovery import send_position
from falcon_pachinko.uvicorn import PushProtocol

from ..support.chat_cluster import ChatCluster
from ..support.virtual_transport import PushClient, SteppedLoop

# A room in which announcements wait, and one in which the next user is the first to wait.
MEMBERS = 30
SMALL = round(MIN_SECONDS / SECONDS_PER_MEMBER) - 2
# More rooms than Python permits calls within each other.
MANY_ROOMS = 400


class Hall(WebSocketResource):
    history = History(messages=500, seconds=60.0)
    go_on: ClassVar[asyncio.Event | None] = None

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        # The rooms of a connection are those of one user.
        self.connection.user = name = "walker" if name in ("red", "blue") else name
        joined = {"type": "joined", "payload": name}
        await self.join_room("hall", join_message=joined, leave_message=f"{name} left")
        if req.get_param("wait"):
            assert Hall.go_on is not None
            await Hall.go_on.wait()
        if req.get_param("list"):
            await self.send_list(ws, {})
        return True

    @handles_message("post")
    async def post(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("hall", {"type": "posted", "payload": "all"})

    @handles_message("list")
    async def send_list(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        users = await self.room_members("hall")
        await ws.send_media({"type": "listed", "payload": len(users)})

    @handles_message("leave")
    async def leave(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.leave_room("hall")
        await ws.send_media({"type": "gone", "payload": "you"})

    @handles_message("enterAll")
    async def enter_all(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        for number in range(MANY_ROOMS):
            joined = {"type": "joined", "payload": f"room {number}"}
            await self.join_room(f"room {number}", join_message=joined)

    @handles_message("enter")
    async def enter(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.join_room("hall", join_message="again")


class CountingClient(PushClient):
    """A client that counts what the server writes."""

    writes = 0

    def read(self, data: bytes) -> None:
        self.writes += 1
        super().read(data)

    @property
    def texts(self) -> list[str]:
        """What it has received, without the positions of rooms: ``"joined x"`` or a text."""
        found = []
        for message in self.messages:
            if isinstance(message, str):
                found.append(message)
            elif message["type"] != "serverPosition":
                found.append(f"{message['type']} {message['payload']}")
        return found

    @property
    def messages(self) -> list[Any]:
        return [json.loads(each) if each[:1] == "{" else each for each in self.received]

    @property
    def offsets(self) -> list[int]:
        """The offsets of the positions that it has received, in order."""
        return [int(m["id"].partition(":")[2]) for m in self.messages if "id" in m]

    def forget(self) -> None:
        self.received.clear()
        self.writes = 0

    def send(self, message_type: str, **payload: Any) -> None:
        self.send_texts(json.dumps({"type": message_type, "payload": payload}))


class Site:
    """An application in this process with one room."""

    def __init__(self, loop: SteppedLoop) -> None:
        self.loop = loop
        backend = MemoryBackend(Timing(grace_seconds=0))
        self.app = install(falcon.asgi.App(), backend=backend)
        self.app.add_websocket_route("/{name}", Hall)
        self.app.add_websocket_route("/several/{name}", Hall)
        self.app.add_rooms_route("/several", "/several/{name}")
        self.manager = self.app.ws_connection_manager
        self.registry = self.manager._registry
        self.config = uvicorn.Config(
            self.app, ws=PushProtocol, ws_ping_interval=None, log_config=None, lifespan="off"
        )
        self.config.load()
        self.clients: list[CountingClient] = []

    def connect(self, path: str) -> CountingClient:
        """Send a handshake; the clock stands still until it has been answered."""
        client = CountingClient(self.app, f"/{path}", lambda: None, config=self.config)
        self.clients.append(client)
        client.connect()
        return client

    async def enter(self, path: str) -> CountingClient:
        """Connect a client, in no time."""
        client, before = self.connect(path), self.loop.time()
        await self.loop.run_until_idle()
        assert client.opened
        assert self.loop.time() == before
        return client

    async def fill(self, count: int = MEMBERS) -> list[CountingClient]:
        """Connect members who know each other, and have forgotten how they came."""
        members = [await self.enter(f"member{number}") for number in range(count)]
        await asyncio.sleep(MAX_SECONDS)
        for member in members:
            member.forget()
        return members

    async def pass_time(self) -> None:
        """Let the longest wait end."""
        await asyncio.sleep(MAX_SECONDS)
        await self.loop.run_until_idle()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.manager.backend.start()
        yield
        for client in self.clients:
            client.vanish()
        await self.loop.run_until_idle()
        await self.registry.wait_empty()
        await self.manager.backend.stop()
        assert not self.registry.announcements
        assert [each.violations for each in self.clients if each.violations] == []


Scenario = Callable[[Site], Coroutine[Any, Any, None]]


def play(scenario: Scenario) -> None:
    """Run a scenario on a virtual clock."""
    loop = SteppedLoop()

    async def run() -> None:
        site = Site(loop)
        async with site.running():
            await scenario(site)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(run())
    assert loop.failures == []


def test_fifty_joins_are_one_write_to_each_member() -> None:
    async def scenario(site: Site) -> None:
        members = await site.fill()
        names = [f"guest{number}" for number in range(50)]
        guests = [site.connect(name) for name in names]
        await site.loop.run_until_idle()
        assert [member.texts for member in members] == [[]] * MEMBERS
        await site.pass_time()
        joined = [f"joined {name}" for name in names]
        for member in members:
            assert member.texts == joined
            assert member.writes == 1
        for guest in guests:
            # All have entered before the first one was announced.
            assert guest.texts == [each for each in joined if each != f"joined {guest.path[1:]}"]

    play(scenario)


def test_a_small_room_waits_for_nothing() -> None:
    async def scenario(site: Site) -> None:
        first, *_ = await site.fill(SMALL)
        await site.enter("alice")
        assert first.texts == ["joined alice"]
        await site.enter("bob")
        assert first.texts == ["joined alice"]
        await asyncio.sleep(MIN_SECONDS * 1.1)
        assert first.texts == ["joined alice", "joined bob"]

    play(scenario)


def test_a_broadcast_comes_after_the_joins_before_it_and_ends_their_wait() -> None:
    async def scenario(site: Site) -> None:
        members = await site.fill()
        alice = await site.enter("alice")
        bob = await site.enter("bob")
        members[0].send("post")
        before = site.loop.time()
        await site.loop.run_until_idle()
        assert site.loop.time() == before
        for member in members:
            assert member.texts == ["joined alice", "joined bob", "posted all"]
            assert member.writes == 1
        assert (alice.texts, bob.texts) == (["joined bob", "posted all"], ["posted all"])
        await site.pass_time()
        assert members[0].texts == ["joined alice", "joined bob", "posted all"]

    play(scenario)


def test_a_user_that_joins_and_leaves_in_the_window_is_announced_twice_in_order() -> None:
    async def scenario(site: Site) -> None:
        members = await site.fill()
        alice = await site.enter("alice")
        await site.enter("bob")
        alice.send("leave")
        await site.loop.run_until_idle()
        assert members[0].texts == []
        # What was announced before it left has reached it, and nothing later.
        assert alice.texts == ["joined bob", "gone you"]
        await site.pass_time()
        assert members[0].texts == ["joined alice", "joined bob", "alice left"]
        assert alice.texts == ["joined bob", "gone you"]

    play(scenario)


def test_a_member_that_leaves_and_enters_again_gets_neither_its_own_messages_nor_old_ones() -> None:
    async def scenario(site: Site) -> None:
        members = await site.fill()
        await site.enter("alice")
        members[0].send("leave")
        members[0].send("enter")
        await site.enter("bob")
        await site.pass_time()
        assert members[1].texts == ["joined alice", "member0 left", "again", "joined bob"]
        assert members[0].texts == ["joined alice", "gone you", "joined bob"]

    play(scenario)


def test_a_message_of_its_own_comes_after_the_joins_before_it_for_one_member_only() -> None:
    async def scenario(site: Site) -> None:
        first, second, *_ = await site.fill()
        await site.enter("alice")
        first.send("list")
        await site.loop.run_until_idle()
        assert first.texts == ["joined alice", f"listed {MEMBERS + 1}"]
        assert second.texts == []
        await site.enter("bob")
        await site.pass_time()
        assert first.texts == ["joined alice", f"listed {MEMBERS + 1}", "joined bob"]
        assert second.texts == ["joined alice", "joined bob"]
        assert second.writes == 1

    play(scenario)


def test_a_client_in_several_rooms_is_sent_what_waits_before_a_message_in_any_of_them() -> None:
    async def scenario(site: Site) -> None:
        await site.fill()
        client = await site.enter("several")
        for name in ("red", "blue"):
            client.send("clientJoin", room=name)
            await site.pass_time()
        client.forget()
        await site.enter("alice")
        client.send_texts('{"type": "list", "room": "blue"}')
        await site.loop.run_until_idle()
        listed = f"listed {MEMBERS + 2}"
        assert sorted(client.texts[:2]) == ["joined alice", "joined alice"]
        assert client.texts[2:] == [listed]
        await site.pass_time()
        assert client.texts[2:] == [listed]

    play(scenario)


@pytest.mark.parametrize("is_for_all", [False, True])
def test_a_message_to_a_user_or_to_all_comes_after_the_joins(is_for_all: bool) -> None:
    async def scenario(site: Site) -> None:
        first, second, *_ = await site.fill()
        await site.enter("alice")
        if is_for_all:
            await site.manager.broadcast_to_all("hello")
            assert not site.registry.announcements
        else:
            await site.manager.send_to_user("member0", "hello")
        await site.loop.run_until_idle()
        assert first.texts == ["joined alice", "hello"]
        assert second.texts == (["joined alice", "hello"] if is_for_all else [])
        await site.pass_time()
        assert first.texts == ["joined alice", "hello"]
        assert second.texts[0] == "joined alice"

    play(scenario)


def test_a_list_and_the_joins_after_it_name_each_user_once() -> None:
    async def scenario(site: Site) -> None:
        await site.fill()
        await site.enter("alice")
        bob = await site.enter("bob?list=1")
        await site.enter("carol")
        await site.pass_time()
        assert bob.texts == [f"listed {MEMBERS + 1}", "joined carol"]

    play(scenario)


def test_a_join_between_the_entry_of_a_client_and_its_list_is_on_the_list_only() -> None:
    async def scenario(site: Site) -> None:
        await site.fill()
        Hall.go_on = asyncio.Event()
        bob = site.connect("bob?wait=1&list=1")
        await site.loop.run_until_idle()
        await site.enter("alice")
        Hall.go_on.set()
        await site.enter("carol")
        await site.pass_time()
        assert bob.texts == [f"listed {MEMBERS + 1}", "joined carol"]

    play(scenario)


def test_the_position_of_the_room_comes_after_the_joins_that_it_contains() -> None:
    async def scenario(site: Site) -> None:
        first, *_ = await site.fill()
        await site.enter("alice")
        await site.enter("bob")
        (connection,) = site.manager._registry.users.connections_of("member0")
        position = site.manager.backend.position("hall")
        assert position is not None
        send_position(connection, position, recovered=UNSET)
        await site.loop.run_until_idle()
        await site.pass_time()
        assert first.offsets == [position.offset - 1, position.offset, position.offset]

    play(scenario)


def test_a_connection_that_has_left_is_sent_nothing_that_waits() -> None:
    async def scenario(site: Site) -> None:
        first, *_ = await site.fill()
        first.send("leave")
        await site.enter("alice")
        (connection,) = site.manager._registry.users.connections_of("member0")
        site.registry.announcements.catch_up_in("hall", connection)
        await site.pass_time()
        assert first.texts == ["gone you"]

    play(scenario)


def test_positions_have_no_gap_and_a_joining_client_gets_each_message_once() -> None:
    async def scenario(site: Site) -> None:
        first, *_ = await site.fill()
        await site.enter("alice")
        bob = await site.enter("bob")
        (state,) = [each for each in bob.messages if each["type"] == "serverPosition"]
        await site.enter("carol")
        # This client has missed all but the messages before `bob`.
        dave = await site.enter(f"dave?since={state['id']}")
        await site.enter("erin")
        first.send("post")
        await site.loop.run_until_idle()
        start = first.offsets[0]
        assert first.offsets == list(range(start, start + 6))
        assert bob.offsets == [start, start + 2, start + 3, start + 4, start + 5]
        # What it missed, then the position, which repeats the last one, then the live messages.
        assert dave.texts == ["joined bob", "joined carol", "joined erin", "posted all"]
        assert dave.offsets == [start + 1, start + 2, start + 2, start + 4, start + 5]
        await site.pass_time()
        assert len(first.offsets) == 6

    play(scenario)


@pytest.mark.parametrize("call", ["close_room", "disconnect_user", "drain"])
def test_a_client_is_closed_after_the_joins_before_its_close(call: str) -> None:
    async def scenario(site: Site) -> None:
        first, second, *_ = await site.fill()
        await site.enter("alice")
        if call == "close_room":
            await site.manager.close_room("hall", 4001)
        elif call == "disconnect_user":
            await site.manager.disconnect_user("member0", 4001)
        else:
            site.manager._drain.close_rest(0.0)
        before = site.loop.time()
        await site.loop.run_until_idle()
        assert site.loop.time() == before
        assert first.close_code == (1012 if call == "drain" else 4001)
        assert first.texts[0] == "joined alice"
        if call == "disconnect_user":
            await site.pass_time()
            assert second.texts == ["joined alice", "member0 left"]

    play(scenario)


def test_a_process_that_stops_sends_what_waits() -> None:
    async def scenario(site: Site) -> None:
        first, *_ = await site.fill()
        await site.enter("alice")
        stopping = asyncio.ensure_future(site.registry.wait_empty())
        before = site.loop.time()
        await site.loop.run_until_idle()
        assert site.loop.time() == before
        assert first.texts == ["joined alice"]
        stopping.cancel()

    play(scenario)


def test_at_most_a_number_of_joins_wait() -> None:
    async def scenario(site: Site) -> None:
        first, *_ = await site.fill()
        for number in range(MAX_ANNOUNCEMENTS - 1):
            await site.enter(f"guest{number}")
        assert first.texts == []
        await site.enter("last")
        assert len(first.texts) == MAX_ANNOUNCEMENTS
        assert first.writes == 1

    play(scenario)


def test_many_members_that_are_ahead_end_the_wait() -> None:
    async def scenario(site: Site) -> None:
        members = await site.fill(MAX_ANNOUNCEMENTS + 2)
        await site.enter("alice")  # the first one that is ahead
        for member in members[1:MAX_ANNOUNCEMENTS]:
            member.send("list")
            await site.loop.run_until_idle()
        assert members[0].texts == []
        for member in members[MAX_ANNOUNCEMENTS:]:
            member.send("list")
            await site.loop.run_until_idle()
        assert not site.registry.announcements
        await site.pass_time()
        assert members[0].texts == ["joined alice"]
        for member in members[1:]:
            assert member.texts == ["joined alice", f"listed {len(members) + 1}"]

    play(scenario)


def test_a_client_that_connects_during_a_loss_of_history_gets_no_earlier_message_after_it() -> None:
    async def scenario(site: Site) -> None:
        await site.fill()
        Hall.go_on = asyncio.Event()
        bob = site.connect("bob?wait=1")
        await site.loop.run_until_idle()
        await site.enter("alice")
        site.registry.on_history_lost("hall")
        Hall.go_on.set()
        await site.pass_time()
        joined = [message["type"] == "joined" for message in bob.messages]
        lost = ['"recovered":false' in text for text in bob.received]
        assert joined.count(True) == 1
        assert joined.index(True) < lost.index(True)

    play(scenario)


@pytest.mark.usefixtures("any_room_waits")
def test_a_client_in_very_many_rooms_is_sent_what_waits_in_all_of_them() -> None:
    async def scenario(site: Site) -> None:
        alice, bob = await site.enter("alice"), await site.enter("bob")
        for client in (alice, bob):
            client.send("enterAll")
            await site.pass_time()
        assert len(set(alice.texts) - {"joined bob"}) == MANY_ROOMS
        carol = await site.enter("carol")
        alice.forget()
        carol.send("enterAll")
        await site.loop.run_until_idle()
        alice.send("list")
        await site.loop.run_until_idle()
        assert len(alice.texts) == MANY_ROOMS + 2
        assert alice.texts[-1] == "listed 3"
        await site.pass_time()
        assert alice.texts[-1] == "listed 3"

    play(scenario)


def test_nothing_is_sent_to_a_room_that_is_empty_again() -> None:
    async def scenario(site: Site) -> None:
        members = await site.fill()
        await site.enter("alice")
        for client in site.clients:
            client.vanish()
        await site.loop.run_until_idle()
        await site.pass_time()
        assert not site.registry.announcements
        assert members[0].texts == []

    play(scenario)


def test_each_message_to_a_client_is_counted_once() -> None:
    async def scenario(site: Site) -> None:
        members = await site.fill()
        await site.enter("alice")
        members[0].send("list")
        await site.enter("bob")
        await site.pass_time()
        connections = {each.user: each for each in site.manager}
        before = {name: connections[name]._outbox.sent for name in ("alice", "member0", "member1")}
        for user in before:
            site.registry.traffic.end(connections[user])
        counted = {name: connections[name]._outbox.sent for name in before}
        # All clients have had a position; the members have had the joins of the members after them, too.
        assert counted["alice"] == len(site.clients[MEMBERS].received)
        assert counted["member0"] == 1 + MEMBERS - 1 + len(members[0].received)
        assert counted["member1"] == 1 + MEMBERS - 2 + len(members[1].received)
        for user in before:
            connections[user]._outbox.sent = before[user]

    play(scenario)


@pytest.fixture
def any_room_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let announcements wait as long as possible in a room of any size."""
    monkeypatch.setattr(announcements, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(announcements, "SECONDS_PER_MEMBER", 1.0)


@pytest.mark.usefixtures("any_room_waits")
async def test_all_nodes_keep_the_order_of_the_room(cluster: ChatCluster) -> None:
    names = [f"user{number}" for number in range(8)]
    clients = [
        await cluster.connect(number, f"/history/{name}") for number, name in enumerate(names)
    ]
    await clients[-1].send("send", {"exclude_self": False})
    for number, client in enumerate(clients):
        found: list[Any] = []
        while not found or found[-1] != {"exclude_self": False}:
            message = await client.receive()
            if isinstance(message, str):
                found.append(message)
            elif message["type"] == "message":
                found.append(message["payload"])
        assert found == [
            *(f"{name} joined" for name in names[number + 1 :]),
            {"exclude_self": False},
        ]

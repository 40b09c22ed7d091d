"""The same API in one process and in two that share an engine, as clients see it."""

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import falcon.asgi
import pytest

from falcon_pachinko import (
    BackendUnavailable,
    History,
    Limits,
    RegistrationError,
    WebSocketConnectionManager,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.base import Timing
from falcon_pachinko.history import Position
from falcon_pachinko.publication import Publication
from falcon_pachinko.publisher import AsyncPublisher, Publisher
from falcon_pachinko.testing import Client, Served, serve
from falcon_pachinko.uvicorn import PushProtocol
from falcon_pachinko.workers import WorkerController

from ..support.backends import TIMING, WAIT_SECONDS, prefixes, until
from ..support.redis_servers import Engine, running_engine

pytestmark = pytest.mark.engine


class Hall(WebSocketResource):
    """One room for all, where everybody may say everything."""

    history: ClassVar[History | None] = History(messages=50, seconds=60.0)

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.connection.user = name
        await self.join_room("hall", join_message=f"{name} came", leave_message=f"{name} went")
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("hall", {"type": "said", "payload": payload}, **payload)


class Mute(Hall):
    """The same without history."""

    history = None


Node = tuple[Served, WebSocketConnectionManager]


class Cluster:
    """Two nodes, or with the memory backend one that is both."""

    def __init__(self, engine: Engine | None, stack: AsyncExitStack) -> None:
        self.engine = engine
        self.stack = stack
        self.prefix = next(prefixes)
        self.nodes: list[Node] = []

    @property
    def url(self) -> str:
        return self.engine.url if self.engine is not None else ""

    async def start(self, timing: Timing = TIMING) -> Node:
        backend = backend_from_url(self.url, prefix=self.prefix, timing=timing)
        app = install(falcon.asgi.App(), backend=backend)
        app.add_websocket_route("/hall/{name}", Hall)
        app.add_websocket_route("/mute/{name}", Mute)
        served = await self.stack.enter_async_context(serve(app, ws=PushProtocol))
        self.nodes.append((served, app.ws_connection_manager))
        return self.nodes[-1]

    async def join(self, number: int, path: str) -> Client:
        """Connect to a node; nothing is read yet."""
        served, _ = self.nodes[number % len(self.nodes)]
        return await self.stack.enter_async_context(served.connect(path))

    def manager(self, number: int) -> WebSocketConnectionManager:
        return self.nodes[number % len(self.nodes)][1]


@pytest.fixture(scope="module")
def one_engine() -> Iterator[Engine]:
    with running_engine() as engine:
        yield engine


@pytest.fixture(params=["memory", "redis"])
async def cluster(request: pytest.FixtureRequest, one_engine: Engine) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        cluster = Cluster(one_engine if request.param == "redis" else None, stack)
        await cluster.start()
        if request.param == "redis":
            await cluster.start()
        yield cluster


@pytest.fixture
async def two(one_engine: Engine) -> AsyncIterator[Cluster]:
    """Two processes' worth of nodes over an engine."""
    async with AsyncExitStack() as stack:
        cluster = Cluster(one_engine, stack)
        await cluster.start()
        await cluster.start()
        yield cluster


async def heard(client: Client, count: int) -> list[Any]:
    """The next messages, without their positions."""
    found = []
    for _ in range(count):
        message = await client.receive()
        if isinstance(message, dict):
            message.pop("id", None)
        found.append(message)
    return found


def said(**payload: Any) -> dict[str, Any]:
    return {"type": "said", "payload": payload}


async def test_members_of_all_processes_hear_a_room(cluster: Cluster) -> None:
    alice, bob = await cluster.join(0, "/mute/alice"), await cluster.join(1, "/mute/bob")
    assert await heard(alice, 1) == ["bob came"]
    await bob.send("say", {})
    assert await heard(alice, 1) == await heard(bob, 1) == [said()]
    assert await cluster.manager(0).members("hall") == ["alice", "bob"]
    assert await cluster.manager(1).get_rooms_by_prefix("ha") == ["hall"]


async def test_who_is_left_out_is_so_in_every_process(cluster: Cluster) -> None:
    alice, tab = await cluster.join(0, "/mute/alice"), await cluster.join(1, "/mute/alice")
    bob = await cluster.join(1, "/mute/bob")
    for client in (alice, tab):
        assert await heard(client, 1) == ["bob came"]
    await alice.send("say", {"exclude_self": True})
    await alice.send("say", {"exclude_user": True})
    await alice.send("say", {"ephemeral": True})
    assert await heard(bob, 3) == [
        said(exclude_self=True),
        said(exclude_user=True),
        said(ephemeral=True),
    ]
    assert await heard(tab, 2) == [said(exclude_self=True), said(ephemeral=True)]
    assert await heard(alice, 1) == [said(ephemeral=True)]


async def test_a_user_is_reached_and_closed_wherever_it_is(cluster: Cluster) -> None:
    alice, tab = await cluster.join(0, "/mute/alice"), await cluster.join(1, "/mute/alice")
    bob = await cluster.join(0, "/mute/bob")
    for client in (alice, tab):
        assert await heard(client, 1) == ["bob came"]
    for number in (0, 1):
        await cluster.manager(number).send_to_user("alice", {"type": "hi", "number": number})
    await cluster.manager(1).broadcast_to_all("all")
    for client in (alice, tab):
        assert await heard(client, 3) == [
            {"type": "hi", "number": 0},
            {"type": "hi", "number": 1},
            "all",
        ]
    assert await heard(bob, 1) == ["all"]
    await cluster.manager(0).disconnect_user("alice", 4001, "go")
    for client in (alice, tab):
        assert await client.wait_closed() == (4001, "go")
    assert await heard(bob, 1) == ["alice went"]
    with pytest.raises(ValueError, match="999"):
        await cluster.manager(0).disconnect_user("bob", 999)


async def test_a_room_can_be_closed_for_all(cluster: Cluster) -> None:
    alice, bob = await cluster.join(0, "/mute/alice"), await cluster.join(1, "/mute/bob")
    await cluster.manager(0).broadcast_to_room("hall", "the last word")
    await cluster.manager(0).close_room("hall", 4002, "closed")
    assert await heard(bob, 1) == ["the last word"]
    assert await heard(alice, 2) == ["bob came", "the last word"]
    for client in (alice, bob):
        assert await client.wait_closed() == (4002, "closed")


async def test_a_connection_is_reached_by_its_id_from_everywhere(cluster: Cluster) -> None:
    alice = await cluster.join(0, "/mute/alice")
    manager = cluster.manager(0)
    await until(lambda: len(manager) == 1)
    [connection] = manager
    for number in (0, 1):
        assert await cluster.manager(number).send_to_connection(connection.id, number) is True
    assert await heard(alice, 2) == [0, 1]
    for unknown in (connection.id + "x", "nobody", ""):
        assert await manager.send_to_connection(unknown, 0) is False


async def test_the_position_comes_with_the_join_and_counts_on(cluster: Cluster) -> None:
    alice = await cluster.join(0, "/hall/alice")
    position = await alice.receive()
    assert position["type"] == "serverPosition"
    assert position["payload"].keys() == {"connection"}
    await alice.send("say", {})
    message = await alice.receive()
    epoch, _, offset = message["id"].partition(":")
    known_epoch, _, known_offset = position["id"].partition(":")
    # NOTE: that alice came has a number too, though she is not told.
    assert (epoch, int(offset)) == (known_epoch, int(known_offset) + 2)


async def test_who_comes_back_elsewhere_is_given_all_but_what_it_said_itself(
    cluster: Cluster,
) -> None:
    alice, bob = await cluster.join(0, "/hall/alice"), await cluster.join(1, "/hall/bob")
    position = (await bob.receive())["payload"]["connection"]
    known = (await alice.receive())["id"]
    assert known
    last = None
    for number in range(5):
        await bob.send("say", {"exclude_self": number % 2 == 1})
        last = await alice.receive()
        while last == "bob came":
            last = await alice.receive()
    first = await bob.receive()
    bob.vanish()
    await alice.send("say", {"ephemeral": True})
    back = await cluster.join(0, f"/hall/bob?since={first['id']}&connection={position}")
    missed = await back.receive_until("serverPosition")
    assert [message["payload"] for message in missed[:-1]] == [{"exclude_self": False}] * 2
    assert missed[-1]["payload"]["recovered"] is True
    offsets = [int(message["id"].partition(":")[2]) for message in missed]
    assert offsets == sorted(offsets)
    assert missed[-1]["id"] == missed[-2]["id"]


@pytest.mark.parametrize(
    "since", ["", "nonsense", "0123456789abcdef:1", ":", "a:b", "a:-1", "a:" + "9" * 100, "%00:1"]
)
async def test_a_position_that_nobody_knows_gives_nothing_and_says_so(
    cluster: Cluster, since: str
) -> None:
    alice = await cluster.join(0, "/hall/alice")
    await alice.receive()
    await alice.send("say", {})
    await alice.receive()
    back = await cluster.join(1, f"/hall/bob?since={since}&connection=x")
    message = await back.receive()
    assert message["type"] == "serverPosition"
    if since:
        assert message["payload"]["recovered"] is False


async def test_who_missed_too_much_is_told_so(cluster: Cluster) -> None:
    alice = await cluster.join(0, "/hall/alice")
    known = (await alice.receive())["id"]
    for _ in range(51):
        await cluster.manager(1).broadcast_to_room("hall", said())
        await alice.receive()
    back = await cluster.join(1, f"/hall/bob?since={known}")
    message = await back.receive()
    assert message["payload"]["recovered"] is False
    assert message["id"].partition(":")[0] == known.partition(":")[0]


async def test_what_is_too_large_for_one_client_is_not_given_in_part(cluster: Cluster) -> None:
    alice = await cluster.join(0, "/hall/alice")
    known = (await alice.receive())["id"]
    for _ in range(10):
        await cluster.manager(0).broadcast_to_room("hall", said(text="x" * 60_000))
        await alice.receive()
    back = await cluster.join(0, f"/hall/bob?since={known}")
    assert (await back.receive())["payload"]["recovered"] is False


async def test_what_many_rooms_give_one_client_together_is_bounded_too() -> None:
    rooms = [f"room {number}" for number in range(4)]

    class Everywhere(WebSocketResource):
        limits = Limits(outbox_messages=50)
        history = History(messages=50, seconds=60.0)

        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
        ) -> bool:
            for room in rooms:
                await self.join_room(room)
            return True

    app = install(falcon.asgi.App())
    app.add_websocket_route("/everywhere", Everywhere)
    async with serve(app, ws=PushProtocol) as served:
        async with served.connect("/everywhere") as alice:
            known = [(await alice.receive())["id"] for _ in rooms]
            for room in rooms:
                for _ in range(20):
                    await app.ws_connection_manager.broadcast_to_room(room, said())
                    await alice.receive()
        query = "&".join(f"since={place}" for place in known)
        async with served.connect(f"/everywhere?{query}") as back:
            told = [await back.receive() for _ in range(20 + len(rooms))]
    given = [message["payload"].get("recovered") for message in told]
    assert given == [None] * 20 + [True, False, False, False]


async def test_a_user_of_whom_no_engine_can_be_told_harms_nobody(two: Cluster) -> None:
    manager = two.manager(0)
    assert two.engine is not None
    two.engine.pause()
    try:
        await until(lambda: manager.backend.outage != "")
        alice = await two.join(0, "/hall/alice")
        connection = next(iter(manager))
        connection.user = "\ud800"
        with pytest.raises(ValueError, match="not valid Unicode"):
            await manager.join_room(connection, "kitchen")
    finally:
        two.engine.resume()
    assert "connection" in (await alice.receive())["payload"]
    await until(lambda: manager.backend.outage == "")


async def test_authorisation_is_asked_again_of_who_comes_back(one_engine: Engine) -> None:
    class Guarded(Hall):
        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
        ) -> bool:
            await super().on_connect(req, ws, *args, **params)
            return bool(params["name"] != "barred")

    app = install(
        falcon.asgi.App(), backend=backend_from_url(one_engine.url, prefix=next(prefixes))
    )
    app.add_websocket_route("/hall/{name}", Guarded)
    async with serve(app, ws=PushProtocol) as served:
        async with served.connect("/hall/alice") as alice:
            known = (await alice.receive())["id"]
            await alice.send("say", {})
            await alice.receive()
            with pytest.raises(Exception, match="403"):
                async with served.connect(f"/hall/barred?since={known}"):
                    pass
        assert await app.ws_connection_manager.members("hall") == ["alice"]


async def test_a_client_is_told_when_a_handler_s_word_may_be_lost(two: Cluster) -> None:
    alice = await two.join(0, "/mute/alice")
    assert two.engine is not None
    two.engine.pause()
    try:
        await until(lambda: two.manager(0).backend.outage != "")
        await alice.send("say", {})
        error = await alice.receive()
    finally:
        two.engine.resume()
    assert error["type"] == "serverError"
    assert error["payload"]["code"] == "unavailable"
    await until(lambda: two.manager(0).backend.outage == "")
    await alice.send("say", {})
    assert await heard(alice, 1) == [said()]


async def test_one_may_join_while_the_engine_is_away_and_hears_all_afterwards(two: Cluster) -> None:
    alice = await two.join(0, "/hall/alice")
    known = (await alice.receive())["id"]
    await alice.send("say", {})
    first = await alice.receive()
    assert two.engine is not None
    two.engine.pause()
    try:
        await until(lambda: all(manager.backend.outage for _, manager in two.nodes))
        bob = await two.join(1, "/hall/bob")
        back = await two.join(1, f"/hall/carol?since={known}")
    finally:
        two.engine.resume()
    assert (await bob.receive())["payload"].keys() == {"connection"}
    assert await back.receive() == "alice came"
    assert await back.receive() == first
    assert (await back.receive())["payload"]["recovered"] is True
    names = {await alice.receive(), await alice.receive()}
    assert names == {"bob came", "carol came"}


async def test_an_outage_that_ends_between_two_joins_takes_nothing_from_who_comes_back(
    one_engine: Engine,
) -> None:
    is_in_first, may_go_on = asyncio.Event(), asyncio.Event()

    class Flat(WebSocketResource):
        history = History(messages=50, seconds=60.0)

        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
        ) -> bool:
            await self.join_room("hall")
            is_in_first.set()
            await may_go_on.wait()
            await self.join_room("kitchen")
            return True

    backend = backend_from_url(one_engine.url, prefix=next(prefixes), timing=TIMING)
    app = install(falcon.asgi.App(), backend=backend)
    app.add_websocket_route("/flat", Flat)
    async with serve(app, ws=PushProtocol) as served:
        may_go_on.set()
        async with served.connect("/flat") as alice:
            known = [(await alice.receive())["id"] for _ in range(2)]
            for room in ("hall", "kitchen"):
                await app.ws_connection_manager.broadcast_to_room(room, said(room=room))
            missed = [await alice.receive() for _ in range(2)]
            is_in_first.clear()
            may_go_on.clear()

            async def come_back() -> list[Any]:
                query = "&".join(f"since={place}" for place in known)
                async with served.connect(f"/flat?{query}") as back:
                    return [await back.receive() for _ in range(4)]

            one_engine.pause()
            try:
                await until(lambda: backend.outage != "")
                coming = asyncio.create_task(come_back())
                await asyncio.wait_for(is_in_first.wait(), WAIT_SECONDS)
            finally:
                one_engine.resume()
            await until(lambda: backend.outage == "")
            may_go_on.set()
            told = await coming
    assert told[::2] == missed
    assert [place["id"] for place in told[1::2]] == [message["id"] for message in missed]
    assert [place["payload"]["recovered"] for place in told[1::2]] == [True, True]


# From outside.


async def test_a_publisher_speaks_from_outside(two: Cluster) -> None:
    alice, bob = await two.join(0, "/mute/alice"), await two.join(1, "/mute/bob")
    assert await heard(alice, 1) == ["bob came"]
    async with AsyncPublisher(two.url, prefix=two.prefix) as publisher:
        await asyncio.gather(
            *[publisher.broadcast_to_room("hall", said(number=n)) for n in range(20)]
        )
        await publisher.broadcast_to_room("hall", "not for alice", exclude_users=["alice"])
        await publisher.send_to_user("alice", "for alice")
        await publisher.broadcast_to_all("for all")
        assert await publisher.get_rooms_by_prefix("h") == ["hall"]
        await publisher.disconnect_user("bob", 4001, "go")
    numbers = [said(number=n) for n in range(20)]
    assert await heard(bob, 22) == [*numbers, "not for alice", "for all"]
    assert (await bob.wait_closed())[0] == 4001
    assert await heard(alice, 22) == [*numbers, "for alice", "for all"]


async def test_a_publisher_needs_no_event_loop(two: Cluster) -> None:
    alice = await two.join(0, "/mute/alice")

    def speak() -> list[str]:
        with Publisher(two.url, prefix=two.prefix) as publisher:
            publisher.broadcast_to_room("hall", "to the room", ephemeral=True)
            publisher.send_to_user("alice", "to alice")
            publisher.broadcast_to_all("to all")
            publisher.disconnect_user("nobody")
            rooms = publisher.get_rooms_by_prefix("")
            publisher.close_room("hall", 4002)
            return rooms

    assert await asyncio.to_thread(speak) == ["hall"]
    assert await heard(alice, 3) == ["to the room", "to alice", "to all"]
    assert (await alice.wait_closed())[0] == 4002


async def test_a_publisher_says_what_is_wrong(one_engine: Engine) -> None:
    with pytest.raises(RegistrationError, match="needs the backend's URL"):
        Publisher("")
    with pytest.raises(RegistrationError, match="redis://"):
        Publisher("http://127.0.0.1")
    away = AsyncPublisher("redis://127.0.0.1:1", answer_seconds=1.0)
    with pytest.raises(BackendUnavailable) as raised:
        await away.__aenter__()
    assert "127.0.0.1:1" in str(raised.value)
    one_engine.pause()
    try:
        with pytest.raises(BackendUnavailable, match=r"^no response in time$"):
            await AsyncPublisher(one_engine.url, answer_seconds=0.5).__aenter__()
    finally:
        one_engine.resume()
    with pytest.raises(RuntimeError, match="event loop"):
        Publisher("redis://127.0.0.1:1").__enter__()


# Once per cluster.


async def test_a_worker_runs_in_one_process_and_is_taken_over(two: Cluster) -> None:
    running: list[int] = []

    async def work(number: int) -> None:
        running.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            running.remove(number)

    controllers = [WorkerController(manager=two.manager(number)) for number in (0, 1)]
    try:
        for number, controller in enumerate(controllers):
            await controller.start(work, once_per_cluster=True, number=number)
        await until(lambda: len(running) == 1)
        [first] = running
        assert await two.manager(first).get_rooms_by_prefix("") == []
        await controllers[first].stop()
        await until(lambda: running == [1 - first])
    finally:
        for controller in controllers:
            await controller.stop()
    assert running == []


async def test_a_worker_whose_process_stood_still_is_replaced_and_cancelled(
    two: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[int] = []

    async def work(number: int) -> None:
        running.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            running.remove(number)

    async def unheard(lease: object) -> bool:
        raise BackendUnavailable("it stands still")

    controllers = [WorkerController(manager=two.manager(number)) for number in (0, 1)]
    try:
        await controllers[0].start(work, once_per_cluster=True, number=0)
        await until(lambda: running == [0])
        await controllers[1].start(work, once_per_cluster=True, number=1)
        monkeypatch.setattr(two.manager(0).backend, "renew", unheard)
        await until(lambda: running == [1])
    finally:
        for controller in controllers:
            await controller.stop()


async def test_in_memory_a_worker_simply_runs() -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    controller = WorkerController(manager=WebSocketConnectionManager())
    await controller.start(work, once_per_cluster=True)
    async with asyncio.timeout(WAIT_SECONDS):
        await done.wait()
    await controller.stop()


async def test_once_per_cluster_needs_to_know_the_cluster() -> None:
    async def work() -> None:
        """Nothing."""

    with pytest.raises(RegistrationError, match="needs the manager"):
        await WorkerController().start(work, once_per_cluster=True)


async def test_once_per_cluster_is_for_each_worker_once() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    controller = WorkerController(manager=WebSocketConnectionManager())
    with pytest.raises(RegistrationError, match="started twice"):
        await controller.start(work, functools.partial(work), once_per_cluster=True)
    await controller.start(work, once_per_cluster=True)
    with pytest.raises(RegistrationError, match="started twice"):
        await controller.start(work, once_per_cluster=True)
    await controller.stop()
    await controller.start(work, once_per_cluster=True)
    await controller.stop()


def test_binary_messages_carry_no_position() -> None:
    data = b"\x00{}"
    entry = Publication.to_room(Publication.of_bytes(data))
    entry.number(Position("epoch", 1), shown=True)
    assert entry.body == data


async def test_a_publisher_is_used_while_it_is_open() -> None:
    publisher = AsyncPublisher("redis://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="async with AsyncPublisher"):
        await publisher.broadcast_to_room("room", "nobody hears it")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://127.0.0.1", "redis://"),
        ("nonsense", "redis://"),
        ("redis+sentinel://127.0.0.1:1", "/service"),
        ("redis+sentinel:///service", "/service"),
        ("redis://127.0.0.1:1?secret=1", "options"),
        ("redis+cluster://127.0.0.1:1?secret=1", "options"),
        ("redis://:secret#word@127.0.0.1:1", "percent-encoding"),
        ("redis://:secret/word@127.0.0.1:1", "percent-encoding"),
        ("redis://:secret?word@127.0.0.1:1", "percent-encoding"),
        ("redis://:secret[word@127.0.0.1:1", "percent-encoding"),
        ("redis+cluster://:secret#word@127.0.0.1:1", "percent-encoding"),
        ("redis+sentinel://:secret/word@127.0.0.1:1/service", "percent-encoding"),
    ],
)
def test_a_url_that_names_no_engine_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(RegistrationError, match=complaint) as raised:
        backend_from_url(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("heartbeat_seconds", 0), ("expiry_seconds", -1), ("answer_seconds", float("inf"))],
)
def test_times_that_cannot_work_are_refused(name: str, value: float) -> None:
    with pytest.raises(RegistrationError, match=name):
        Timing(**{name: value})


def test_a_heartbeat_has_to_come_before_the_expiry() -> None:
    with pytest.raises(RegistrationError, match="above heartbeat_seconds"):
        Timing(heartbeat_seconds=30.0)


@pytest.mark.parametrize("given", [{"messages": 0}, {"seconds": float("nan")}, {"seconds": "5"}])
def test_a_history_that_cannot_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(RegistrationError, match="must be a number above zero"):
        History(**given)

"""The life of a connection on real servers with real clients."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import falcon
import falcon.asgi
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State

from falcon_pachinko import (
    App,
    Connection,
    InvalidPayload,
    Limits,
    MessageError,
    Reject,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
    install,
)
from falcon_pachinko.testing import Client, connect, serve

from .support.servers import RECEIVING_SERVERS, SERVERS, Endpoint
from .support.virtual_transport import PortableClient, SteppedLoop

WAIT_SECONDS = 5.0
BEFORE_TIMEOUT_SECONDS = 0.2

Step = Callable[["Lobby", falcon.asgi.Request, WebSocketLike], Awaitable[bool]]


class Say(msgspec.Struct):
    text: str


class Lobby(WebSocketResource):
    """A resource with an ``on_connect`` from the test, which records its events."""

    limits = Limits(on_connect_seconds=WAIT_SECONDS, on_disconnect_seconds=WAIT_SECONDS)

    def __init__(self, record: list[Any], steps: dict[str, Step]) -> None:
        self.record = record
        self.steps = steps

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.name = name
        self.connection.user = name
        if name in self.steps:
            return await self.steps[name](self, req, ws)
        await self.join_room("lobby")
        return True

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        self.record.append((self.name, close_code))
        await self.broadcast_to_room("lobby", {"type": "left", "payload": {"name": self.name}})

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: Say) -> None:
        await self.broadcast_to_room("lobby", {"type": "said", "payload": {"text": payload.text}})

    @handles_message("burst")
    async def burst(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        for number in range(50):
            await ws.send_media({"type": "direct", "payload": {"number": number}})
            await self.broadcast_to_room("lobby", {"type": "room", "payload": {"number": number}})

    @handles_message("complain")
    async def complain(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise MessageError("You may not.", code="forbidden")

    @handles_message("crash")
    async def crash(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise ZeroDivisionError("a secret detail")

    @handles_message("conflict")
    async def conflict(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise falcon.HTTPConflict

    @handles_message("reject")
    async def reject(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise Reject(4403, "not any more")

    @handles_message("close")
    async def close(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_text("last words")
        await ws.close(4001, "as you wish")
        self.record.append(("closed", ws.closed))

    @handles_binary
    async def echo(self, ws: WebSocketLike, data: bytes) -> None:
        await ws.send_data(data[::-1])


class World:
    """One served application, its record and its clients."""

    def __init__(self) -> None:
        self.record: list[Any] = []
        self.steps: dict[str, Step] = {}
        self.app: App = install(falcon.asgi.App())
        self.app.add_websocket_route("/lobby/{name}", Lobby, self.record, steps=self.steps)
        self.manager = self.app.ws_connection_manager
        self.served: Endpoint
        self.stack = AsyncExitStack()

    async def connect(self, path: str, **options: Any) -> Client:
        """Connect to a path; the connection is closed when the test ends."""
        url = self.served.ws_url(path)
        return await self.stack.enter_async_context(connect(url, **options))

    async def join(self, name: str, **options: Any) -> Client:
        """Connect to the lobby under a name."""
        return await self.connect(f"/lobby/{name}", **options)

    async def connect_stalled(self, resource: type[Lobby]) -> Client:
        """Connect as bob, a client that does not read and has a small receive buffer."""
        self.app.add_websocket_route("/stalled/{name}", resource, self.record, steps={})
        client = await self.connect("/stalled/bob", small_buffer=True)
        client.pause_reading()
        return client

    def set_limits(self, monkeypatch: pytest.MonkeyPatch, limits: Limits) -> None:
        """Give the lobby's route other limits."""
        (route,) = self.app.ws_routes
        monkeypatch.setattr(route, "config", replace(route.config, limits=limits))

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Run the loop until the condition holds."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110 (the condition sets no event)
                await asyncio.sleep(0.001)

    def rooms(self) -> dict[str, Any]:
        """Return the members of every room, including invisible ones."""
        return self.manager._registry.synced.members_by_room


@pytest.fixture(params=RECEIVING_SERVERS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A served application, on each server in turn."""
    world = World()
    async with RECEIVING_SERVERS[request.param](world.app) as world.served, world.stack:
        yield world


def on(servers: Iterable[str]) -> pytest.MarkDecorator:
    """Run a test on these servers only; a comment beside it gives the reason."""
    return pytest.mark.parametrize("world", sorted(servers), indirect=True)


async def test_accept_releases_own_messages_then_room_messages_then_broadcasts(
    world: World,
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        await ws.send_text("own 1")
        await self.broadcast_to_room("lobby", "broadcast")
        await self.join_room("lobby")
        entered.set()
        await go_on.wait()
        await ws.send_text("own 2")
        return True

    world.steps["bob"] = slowly
    alice = await world.join("alice")
    joining = asyncio.create_task(world.join("bob"))
    await asyncio.wait_for(entered.wait(), WAIT_SECONDS)
    await alice.send("say", {"text": "meanwhile"})
    assert (await alice.receive())["payload"] == {"text": "meanwhile"}
    go_on.set()
    bob = await joining
    assert [await bob.receive_raw() for _ in range(4)] == [
        "own 1",
        "own 2",
        '{"type":"said","payload":{"text":"meanwhile"}}',
        '"broadcast"',
    ]
    assert await alice.receive() == "broadcast"


async def test_overridden_broadcast_is_called_once_and_keeps_the_order(world: World) -> None:
    said: list[Any] = []

    class Archive(Lobby):
        async def broadcast_to_room(
            self, room: str, message: object, exclude_self: bool = False, **options: Any
        ) -> None:
            await asyncio.sleep(0)
            said.append(message)
            await super().broadcast_to_room(room, message, exclude_self, **options)

    async def announce(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        await self.join_room("lobby")
        await self.broadcast_to_room("lobby", "joined")
        await world.manager.broadcast_to_room("lobby", "meanwhile")
        return True

    world.app.add_websocket_route("/archive/{name}", Archive, world.record, steps={"bob": announce})
    bob = await world.connect("/archive/bob")
    assert [await bob.receive() for _ in range(2)] == ["meanwhile", "joined"]
    assert said == ["joined"]


async def test_joining_client_is_invisible_until_accepted(world: World) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        await self.join_room("lobby")
        entered.set()
        await go_on.wait()
        return True

    world.steps["bob"] = slowly
    joining = asyncio.create_task(world.join("bob"))
    await asyncio.wait_for(entered.wait(), WAIT_SECONDS)
    assert await world.manager.get_rooms_by_prefix("") == []
    assert await world.manager.members("lobby") == []
    assert list(world.manager) == []
    go_on.set()
    await joining
    await world.wait_until(lambda: len(world.manager) == 1)
    assert await world.manager.get_rooms_by_prefix("lob") == ["lobby"]
    assert await world.manager.members("lobby") == ["bob"]


async def refuse(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
    return False


async def forget_to_return(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
    return None  # type: ignore[return-value]


async def close(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
    await ws.close()
    return True


async def crash(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
    raise ZeroDivisionError


async def unauthorized(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
    raise falcon.HTTPUnauthorized


async def overflow(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
    while True:
        await ws.send_text("x")


async def overflow_the_room(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
    while True:
        await self.broadcast_to_room("lobby", "x")


async def take_too_long(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
    await asyncio.Event().wait()
    return True


@pytest.mark.parametrize(
    "ending",
    [
        refuse,
        forget_to_return,
        close,
        crash,
        unauthorized,
        overflow,
        overflow_the_room,
        take_too_long,
    ],
    ids=lambda ending: ending.__name__,
)
async def test_refused_connection_has_no_visible_effect(
    world: World, ending: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def join_and(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        await self.join_room("lobby")
        await self.join_room("another")
        await self.broadcast_to_room("lobby", "hello")
        await ws.send_text("welcome")
        return await ending(self, req, ws)

    world.steps["bob"] = join_and
    world.set_limits(monkeypatch, Limits(on_connect_seconds=BEFORE_TIMEOUT_SECONDS))
    alice = await world.join("alice")
    with pytest.raises(InvalidStatus) as refused:
        await world.join("bob")
    assert refused.value.response.status_code == 403
    assert refused.value.response.body in (b"", None)
    await alice.send("say", {"text": "marker"})
    assert await alice.receive() == {"type": "said", "payload": {"text": "marker"}}
    await world.wait_until(lambda: list(world.rooms()) == ["lobby"])
    assert [member.user for member in world.rooms()["lobby"]] == ["alice"]
    assert world.record == []


# granian 2.8 reports a disconnect before the accept only after on_connect has returned.
@on(SERVERS.keys() - {"granian"})
async def test_client_that_disconnects_during_on_connect_has_no_visible_effect(
    world: World,
) -> None:
    entered, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slowly(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        await self.join_room("lobby")
        await self.broadcast_to_room("lobby", "hello")
        entered.set()
        await go_on.wait()
        ended.set()
        return True

    world.steps["bob"] = slowly
    alice = await world.join("alice")
    joining = asyncio.create_task(world.join("bob"))
    await asyncio.wait_for(entered.wait(), WAIT_SECONDS)
    joining.cancel()
    await asyncio.wait({joining})
    connection = next(member for member in world.rooms()["lobby"] if member.user == "bob")
    await world.wait_until(lambda: connection.closed)
    go_on.set()
    await asyncio.wait_for(ended.wait(), WAIT_SECONDS)
    await world.wait_until(lambda: len(world.rooms()["lobby"]) == 1)
    await alice.send("say", {"text": "marker"})
    assert await alice.receive() == {"type": "said", "payload": {"text": "marker"}}
    assert world.record == []


async def test_reject_accepts_and_closes_with_its_code_and_reason(world: World) -> None:
    async def reject(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        await self.join_room("lobby")
        await ws.send_text("never sent")
        raise Reject(4403, "ö" * 100)

    world.steps["bob"] = reject
    bob = await world.join("bob")
    with pytest.raises(ConnectionClosed) as closed:
        await bob.receive()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4403, "ö" * 61)
    await world.wait_until(lambda: world.rooms() == {})
    assert world.record == []


async def test_reject_selects_a_subprotocol_of_the_offer(world: World) -> None:
    async def reject(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        raise Reject(4403, "not here")

    world.steps["bob"] = reject
    bob = await world.join("bob", subprotocols=["chat.v1", "chat.v2"])
    assert bob.socket.subprotocol == "chat.v1"
    with pytest.raises(ConnectionClosed) as closed:
        await bob.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403


# granian 2.8 drops the headers of an accept.
@on(SERVERS.keys() - {"granian"})
async def test_on_connect_sets_subprotocol_and_headers(world: World) -> None:
    async def choose(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        assert isinstance(ws, Connection)
        await ws.accept(subprotocol="chat.v2", headers=[("X-Node", "one")])
        return True

    world.steps["bob"] = choose
    bob = await world.join("bob", subprotocols=["chat.v1", "chat.v2"])
    assert bob.socket.subprotocol == "chat.v2"
    assert bob.socket.response is not None
    assert bob.socket.response.headers["X-Node"] == "one"


@on({"push by parser", "uvicorn"})
@pytest.mark.parametrize("compression", ["deflate", None])
async def test_connections_with_and_without_compression_receive_the_same_messages(
    world: World, compression: str | None
) -> None:
    alice = await world.join("alice", compression=compression)
    bob = await world.join("bob", compression=None)
    assert bool(alice.socket.protocol.extensions) is (compression == "deflate")
    for number in range(20):
        # The compression contexts of both sides must stay in step.
        await alice.send("say", {"text": f"number {number} " * 20})
        await alice.send("burst")
    for client in (alice, bob):
        said = [m for m in [await client.receive() for _ in range(20)] if m["type"] == "said"]
        assert said[0]["payload"] == {"text": "number 0 " * 20}
        messages = await client.receive_until("said")
        while messages[-1]["payload"]["text"] != "number 19 " * 20:
            messages = await client.receive_until("said")


async def test_direct_messages_and_broadcasts_keep_their_order(world: World) -> None:
    alice, bob = await world.join("alice"), await world.join("bob")
    await bob.send("burst")
    seen_by_bob = [await bob.receive() for _ in range(100)]
    assert [(m["type"], m["payload"]["number"]) for m in seen_by_bob] == [
        (kind, number) for number in range(50) for kind in ("direct", "room")
    ]
    assert [(await alice.receive())["payload"]["number"] for _ in range(50)] == list(range(50))


async def test_all_members_receive_messages_in_the_same_order(world: World) -> None:
    clients = [await world.join(f"user{number}") for number in range(5)]
    for number, client in enumerate(clients):
        for count in range(20):
            await client.send("say", {"text": f"{number}:{count}"})
    seen = [[(await c.receive())["payload"]["text"] for _ in range(100)] for c in clients]
    assert all(order == seen[0] for order in seen)
    for number in range(5):
        own = [text for text in seen[0] if text.startswith(f"{number}:")]
        assert own == [f"{number}:{count}" for count in range(20)]


async def test_binary_message_reaches_its_handler(world: World) -> None:
    alice = await world.join("alice")
    await alice.send_raw(b"abc")
    assert await alice.receive_raw() == b"cba"


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (
            '{"type": "say", "payload": {"text": 5}}',
            {
                "code": "invalidPayload",
                "error": "say has an invalid payload in 'text': Expected `str`, got `int`.",
                "field": "text",
            },
        ),
        (
            '{"type": "say"}',
            {
                "code": "invalidPayload",
                "error": "say has an invalid payload: Object missing required field `payload`.",
            },
        ),
        (
            '{"type": "on_disconnect"}',
            {"code": "unknownMessage", "error": "Unrecognized message format or type."},
        ),
        ('{"type": "complain"}', {"code": "forbidden", "error": "You may not."}),
    ],
)
async def test_invalid_message_is_answered_and_the_connection_stays_open(
    world: World, message: str, payload: dict[str, str]
) -> None:
    alice = await world.join("alice")
    await alice.send_raw(message)
    assert await alice.receive() == {"type": "serverError", "payload": payload}
    await alice.send("say", {"text": "still here"})
    assert (await alice.receive())["payload"] == {"text": "still here"}


@pytest.mark.parametrize(
    ("message_type", "code", "reason"),
    [
        ("crash", 1011, "Internal Server Error"),
        ("conflict", 3409, "Conflict"),
        ("reject", 4403, "not any more"),
        ("close", 4001, "as you wish"),
    ],
)
async def test_server_side_close_has_its_code_and_one_on_disconnect(
    world: World, message_type: str, code: int, reason: str
) -> None:
    alice, bob = await world.join("alice"), await world.join("bob")
    await bob.send(message_type)
    assert await bob.wait_closed() == (code, reason)
    assert await alice.receive() == {"type": "left", "payload": {"name": "bob"}}
    await world.wait_until(lambda: len(world.rooms()["lobby"]) == 1)
    assert [entry for entry in world.record if entry[0] == "bob"] == [("bob", code)]


async def test_crash_is_logged_once_and_hidden_from_the_client(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await world.join("alice")
    await alice.send("crash")
    assert await alice.receive() == {"type": "left", "payload": {"name": "alice"}}
    assert await alice.wait_closed() == (1011, "Internal Server Error")
    await world.wait_until(lambda: len(world.manager) == 0)
    assert [r.exc_info[0] for r in caplog.records if r.exc_info] == [ZeroDivisionError]


async def test_messages_sent_before_a_close_arrive_before_it(world: World) -> None:
    alice = await world.join("alice")
    await alice.send("close")
    assert await alice.receive_raw() == "last words"
    assert await alice.wait_closed() == (4001, "as you wish")
    await world.wait_until(lambda: ("closed", True) in world.record)


# hypercorn 0.18 reports every end as 1006.
@on(SERVERS.keys() - {"hypercorn"})
@pytest.mark.parametrize("code", [1000, 1001, 4999])
async def test_on_disconnect_gets_the_close_code_of_the_client(world: World, code: int) -> None:
    bob = await world.join("bob")
    await bob.close(code)
    await world.wait_until(lambda: world.record == [("bob", code)])


async def test_on_disconnect_is_called_for_a_lost_connection(world: World) -> None:
    alice, bob = await world.join("alice"), await world.join("bob")
    bob.vanish()
    assert await alice.receive() == {"type": "left", "payload": {"name": "bob"}}
    assert world.record in ([("bob", 1005)], [("bob", 1006)])  # depends on the server


async def test_messages_sent_right_before_the_close_are_handled(world: World) -> None:
    alice, bob = await world.join("alice"), await world.join("bob")
    for number in range(20):
        await bob.send("say", {"text": str(number)})
    await bob.close()
    texts = [(await alice.receive())["payload"]["text"] for _ in range(20)]
    assert texts == [str(number) for number in range(20)]


async def test_failing_on_disconnect_is_logged_and_rooms_are_left(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(self: Lobby, ws: WebSocketLike, close_code: int) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Lobby, "on_disconnect", fail)
    bob = await world.join("bob")
    await bob.close()
    await world.wait_until(lambda: world.rooms() == {} and len(world.manager) == 0)
    assert "Lobby.on_disconnect failed" in caplog.text


async def test_hanging_on_disconnect_is_cancelled_at_its_timeout(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(self: Lobby, ws: WebSocketLike, close_code: int) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Lobby, "on_disconnect", hang)
    world.set_limits(monkeypatch, Limits(on_disconnect_seconds=BEFORE_TIMEOUT_SECONDS))
    bob = await world.join("bob")
    await bob.close()
    await world.wait_until(lambda: world.rooms() == {} and len(world.manager) == 0)
    assert "on_disconnect took more than 0.2 s" in caplog.text


# hypercorn and granian wait for the clients to disconnect.
@on({"push", "uvicorn"})
async def test_server_shutdown_calls_on_disconnect_for_every_connection(world: World) -> None:
    clients = [await world.join(f"user{number}") for number in range(20)]
    await world.wait_until(lambda: len(world.manager) == 20)
    world.served.stop()
    assert {await client.wait_closed() for client in clients} == {(1012, "")}
    await world.wait_until(lambda: len(world.record) == 20)
    assert sorted(world.record) == sorted((f"user{n}", 1012) for n in range(20))


@on({"push", "uvicorn"})
async def test_cancelled_connection_calls_on_disconnect_and_leaves_its_rooms(world: World) -> None:
    entered = asyncio.Event()

    async def wait_for_ever(self: Lobby, ws: WebSocketLike, payload: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    class Stuck(Lobby):
        stuck = handles_message("stuck")(wait_for_ever)

    world.app.add_websocket_route("/stuck/{name}", Stuck, world.record, steps={})
    bob = await world.connect("/stuck/bob")
    await bob.send("stuck")
    await asyncio.wait_for(entered.wait(), WAIT_SECONDS)
    # NOTE: uvicorn cancels in this way at the end of its grace period.
    for task in asyncio.all_tasks():
        if "run_asgi" in repr(task.get_coro()):
            task.cancel("grace period is over")
    await world.wait_until(lambda: world.record == [("bob", 1012)] and world.rooms() == {})


async def test_second_and_refused_connections_of_a_user_are_not_announced(world: World) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def announce(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        self.connection.user = "bob"
        await self.join_room("lobby", join_message="bob came")
        return True

    async def announce_slowly(self: Lobby, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        await announce(self, req, ws)
        entered.set()
        await go_on.wait()
        return self.name == "late"

    world.steps |= {"tab": announce, "refused": announce_slowly, "late": announce_slowly}
    alice = await world.join("alice")
    refused = asyncio.create_task(world.join("refused"))
    await asyncio.wait_for(entered.wait(), WAIT_SECONDS)
    await world.join("tab")
    assert await alice.receive() == "bob came"  # the pending connection does not count
    go_on.set()
    with pytest.raises(InvalidStatus):
        await refused
    tab = await world.join("tab")
    await alice.send("say", {"text": "marker"})
    assert (await alice.receive())["type"] == "said"  # no announcement of the second connection
    assert tab.socket.state == State.OPEN


async def test_on_disconnect_runs_after_the_end_of_the_grace_period() -> None:
    record: list[Any] = []
    entered = asyncio.Event()

    class Stuck(Lobby):
        @handles_message("stuck")
        async def stuck(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            entered.set()
            await asyncio.Event().wait()

        async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
            await asyncio.sleep(0.05)
            record.append(close_code)

    app = install(falcon.asgi.App())
    app.add_websocket_route("/stuck/{name}", Stuck, record, steps={})

    @app.lifespan
    async def lifespan(_: App) -> AsyncIterator[None]:
        yield
        record.append("end")

    async with (
        serve(app, timeout_graceful_shutdown=1) as served,
        connect(served.ws_url("/stuck/bob")) as bob,
    ):
        await bob.send("stuck")
        await asyncio.wait_for(entered.wait(), WAIT_SECONDS)
        served.server.should_exit = True
        assert await bob.wait_closed() == (1012, "")
    assert record == [1012, "end"]


def tasks_of_a_visit(resource: type[WebSocketResource]) -> list[str]:
    """Return the names of the coroutines of all tasks of one connection, after the server's."""
    loop, found = SteppedLoop(), []
    app = install(falcon.asgi.App())
    app.add_websocket_route("/{name}", resource)

    def make_task(loop: Any, coroutine: Any, **options: Any) -> Any:
        found.append(coroutine.__name__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def visit() -> None:
        loop.set_task_factory(make_task)
        client = PortableClient(app, "/bob", lambda: None)
        client.connect()
        await loop.run_until_idle()
        client.vanish()
        await client.task

    try:
        loop.run_until_complete(visit())
    finally:
        loop.close()
    return found


def test_an_on_disconnect_of_the_base_class_takes_no_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Quiet(WebSocketResource):
        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, name: str, **params: Any
        ) -> bool:
            return True

    class Loud(Quiet):
        async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None: ...

    class Own(Quiet):
        def __init__(self) -> None:
            self.on_disconnect = self.leave  # type: ignore[method-assign]

        async def leave(self, ws: WebSocketLike, close_code: int) -> None: ...

    assert "_on_disconnect" not in tasks_of_a_visit(Quiet)
    for resource in (Loud, Own):
        assert sorted(tasks_of_a_visit(resource)) == sorted(
            [*tasks_of_a_visit(Quiet), "_on_disconnect"]
        )
    # A tracer that replaces the method of the base class is called.
    monkeypatch.setattr(WebSocketResource, "on_disconnect", Loud.on_disconnect)
    assert "_on_disconnect" in tasks_of_a_visit(Quiet)


async def test_stalled_client_blocks_its_handler_for_a_bounded_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream(self: Lobby, ws: WebSocketLike, payload: Any) -> None:
        while True:
            await ws.send_text("x" * 50_000)

    class Streaming(Lobby):
        limits = Limits(stall_seconds=BEFORE_TIMEOUT_SECONDS, close_seconds=BEFORE_TIMEOUT_SECONDS)
        stream_rows = handles_message("stream")(stream)

    bob = await world.connect_stalled(Streaming)
    await bob.send("stream")
    await world.wait_until(lambda: world.record == [("bob", 4008)])
    await world.wait_until(lambda: len(world.manager) == 0)


async def test_closing_a_client_that_stalls_its_handler_ends_the_connection(world: World) -> None:
    async def stream(self: Lobby, ws: WebSocketLike, payload: Any) -> None:
        while True:
            await ws.send_text("x" * 50_000)

    class Streaming(Lobby):
        limits = Limits(close_seconds=BEFORE_TIMEOUT_SECONDS)
        stream_rows = handles_message("stream")(stream)

    bob = await world.connect_stalled(Streaming)
    await bob.send("stream")
    await world.wait_until(lambda: any(c._outbox.waiting for c in world.manager))
    (connection,) = world.manager
    await asyncio.wait_for(connection.close(4001), WAIT_SECONDS)
    await world.wait_until(lambda: world.record == [("bob", 4001)])
    await world.wait_until(lambda: len(world.manager) == 0)


async def test_cancelled_error_of_a_handler_counts_as_a_crash(world: World) -> None:
    class Odd(Lobby):
        @handles_message("odd")
        async def odd(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            raise asyncio.CancelledError

    world.app.add_websocket_route("/odd/{name}", Odd, world.record, steps={})
    bob = await world.connect("/odd/bob")
    await bob.send("odd")
    assert await bob.wait_closed() == (1011, "Internal Server Error")
    assert world.record == [("bob", 1011)]


async def test_manager_sends_to_one_connection_to_all_and_to_a_room(world: World) -> None:
    alice, bob = await world.join("alice"), await world.join("bob")
    await world.wait_until(lambda: len(world.manager) == 2)
    connections = {connection.user: connection for connection in world.manager}
    assert await world.manager.send_to_connection(connections["bob"].id, "to bob") is True
    assert await world.manager.send_to_connection("nobody", "lost") is False
    await world.manager.broadcast_to_all("to all", exclude=[connections["alice"]])
    await world.manager.broadcast_to_room("lobby", "to the room")
    assert [await bob.receive() for _ in range(3)] == ["to bob", "to all", "to the room"]
    assert await alice.receive() == "to the room"


async def test_connection_that_left_a_room_receives_no_messages_of_it(world: World) -> None:
    alice, bob = await world.join("alice"), await world.join("bob")
    await world.wait_until(lambda: len(world.manager) == 2)
    connection = next(c for c in world.manager if c.user == "bob")
    assert await world.manager.leave_room(connection, "lobby") is True
    await alice.send("say", {"text": "not for bob"})
    await alice.receive()
    await world.manager.send_to_connection(connection.id, "marker")
    assert await bob.receive() == "marker"


async def test_closed_connection_cannot_join_a_room_or_send(world: World) -> None:
    bob = await world.join("bob")
    await world.wait_until(lambda: len(world.manager) == 1)
    (connection,) = world.manager
    await bob.close()
    await world.wait_until(lambda: len(world.manager) == 0)
    with pytest.raises(falcon.WebSocketDisconnected):
        await world.manager.join_room(connection, "ghosts")
    with pytest.raises(falcon.WebSocketDisconnected):
        await connection.send_text("too late")
    assert world.rooms() == {}


async def test_slow_reader_is_closed_and_others_are_unaffected(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(outbox_bytes=200_000, close_seconds=BEFORE_TIMEOUT_SECONDS)
    world.set_limits(monkeypatch, limits)
    caplog.set_level(logging.INFO, logger="falcon_pachinko")
    alice = await world.join("alice")
    bob = await world.join("bob", small_buffer=True)
    await world.wait_until(lambda: len(world.manager) == 2)
    bob.pause_reading()
    text = "x" * 50_000
    sent = 0
    while ("bob", 4008) not in world.record:
        await alice.send("say", {"text": text})
        sent += 1
        while (message := await alice.receive())["type"] != "said":
            assert message == {"type": "left", "payload": {"name": "bob"}}
        assert message["payload"] == {"text": text}
        assert sent < 1000, "the bound was never reached"
    await world.wait_until(lambda: [c.user for c in world.manager] == ["alice"])
    assert "reads too slowly" in caplog.text


async def test_handler_waits_for_its_slow_client(world: World) -> None:
    total, size = 400, 50_000

    async def stream(self: Lobby, ws: WebSocketLike, payload: Any) -> None:
        for number in range(total):
            await ws.send_text(str(number).ljust(size))
            self.record.append(("sent", number))

    class Streaming(Lobby):
        limits = Limits(outbox_messages=2, outbox_bytes=2 * size)
        stream_rows = handles_message("stream")(stream)

    bob = await world.connect_stalled(Streaming)
    await bob.send("stream")
    await world.wait_until(lambda: any(c._outbox.waiting for c in world.manager))
    assert len(world.record) < total
    bob.resume_reading()
    assert [int(await bob.receive_raw()) for _ in range(total)] == list(range(total))


async def test_each_connection_has_its_own_resource(world: World) -> None:
    made: list[Lobby] = []

    def make(*args: Any, **kwargs: Any) -> Lobby:
        made.append(Lobby(*args, **kwargs))
        return made[-1]

    world.app.add_websocket_route("/made/{name}", make, world.record, steps={})
    for name in ("one", "two"):
        url = world.served.ws_url(f"/made/{name}")
        await world.stack.enter_async_context(connect(url))
    await world.wait_until(lambda: len(world.manager) == 2)
    assert [resource.name for resource in made] == ["one", "two"]


async def test_on_invalid_can_be_overridden(world: World) -> None:
    class Stern(Lobby):
        async def on_invalid(
            self, ws: WebSocketLike, message: str | bytes, error: InvalidPayload
        ) -> None:
            raise Reject(4400, f"{error.message_type}.{error.field}")

    world.app.add_websocket_route("/stern/{name}", Stern, world.record, steps={})
    bob = await world.connect("/stern/bob")
    await bob.send("say", {"text": None})
    assert await bob.wait_closed() == (4400, "say.text")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://127.0.0.1:{port}", True),
        ("HTTP://127.0.0.1:{port}", True),
        ("https://friend.example", True),
        ("https://friend.example.evil.example", False),
        ("http://127.0.0.1", False),
        ("http://evil.example", False),
        ("null", False),
        ("", False),
    ],
)
async def test_only_pages_of_allowed_origins_can_connect(origin: str | None, allowed: bool) -> None:
    record: list[Any] = []
    app = install(falcon.asgi.App(), allowed_origins=["https://friend.example"])
    app.add_websocket_route("/lobby/{name}", Lobby, record, steps={})
    async with serve(app) as served:
        headers = {} if origin is None else {"Origin": origin.format(port=served.port)}
        url = served.ws_url("/lobby/bob")
        if allowed:
            async with connect(url, headers=headers) as client:
                await client.send("say", {"text": "hello"})
                assert (await client.receive())["type"] == "said"
        else:
            with pytest.raises(InvalidStatus) as refused:
                async with connect(url, headers=headers):
                    pass
            assert refused.value.response.status_code == 403


class AcceptingMiddleware:
    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        await ws.accept()


class RefusingMiddleware:
    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        await ws.close()


async def test_middleware_may_accept_the_connection_first() -> None:
    record: list[Any] = []
    app = install(falcon.asgi.App(middleware=[AcceptingMiddleware()]))
    app.add_websocket_route("/lobby/{name}", Lobby, record, steps={"eve": refuse})
    async with serve(app) as served:
        async with connect(served.ws_url("/lobby/bob")) as bob:
            await bob.send("say", {"text": "hello"})
            assert (await bob.receive())["type"] == "said"
        async with connect(served.ws_url("/lobby/eve")) as eve:
            assert await eve.wait_closed() == (3403, "")
    assert [name for name, _ in record] == ["bob"]


async def test_middleware_may_refuse_the_connection_first() -> None:
    record: list[Any] = []
    app = install(falcon.asgi.App(middleware=[RefusingMiddleware()]))
    app.add_websocket_route("/lobby/{name}", Lobby, record, steps={})
    async with serve(app) as served:
        with pytest.raises(InvalidStatus):
            async with connect(served.ws_url("/lobby/bob")):
                pass
    assert record == []

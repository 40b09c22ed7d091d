"""Several rooms on one connection, from the outside: joins, leaves, refusals, recovery, hostile clients."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, ClassVar

import falcon.asgi
import pytest

from falcon_pachinko import (
    App,
    History,
    Limits,
    Message,
    Payload,
    RegistrationError,
    Reject,
    RouteConfig,
    ServerLimits,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.testing import Closed, JoinRefused, Running, run
from falcon_pachinko.uvicorn import PushProtocol

WAIT_SECONDS = 5.0


class Joined(Message, frozen=True):
    user: str | None


class Left(Message, frozen=True):
    user: str | None


class Said(Message, frozen=True):
    text: str


class ServerQuestion(Message, frozen=True):
    pass


class Answer(Message, frozen=True):
    text: str


class Say(Payload, frozen=True):
    text: str


class Events:
    """What happens in all rooms of one application."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, int]] = []
        self.release = asyncio.Event()
        self.started = asyncio.Event()


class Room(WebSocketResource):
    history = History(messages=1_000)
    sends = (Joined, Left, Said, ServerQuestion)
    closes: ClassVar[dict[int, str]] = {
        4001: "the room is closed",
        4002: "the user is disconnected",
    }
    limits = Limits(messages_per_second=10_000, message_burst=20_000)

    def __init__(self, events: Events) -> None:
        self.events = events

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        if self.connection.user is None:
            self.connection.user = req.get_param("user")
        user = self.connection.user
        if name == "private":
            raise Reject(4403, "by invitation only")
        if name == "broken":
            raise RuntimeError("this room is broken")
        if name == "slow-join":
            self.events.started.set()
            await self.events.release.wait()
        self.room = f"room:{name}"
        await self.join_room(
            self.room, join_message=Joined(user=user), leave_message=Left(user=user)
        )
        await ws.send_media(Said(text=f"welcome to {name}"))
        return name != "closed"

    async def authorize(self, user: Any, action: str, room: str | None) -> bool:
        return not (action == "join" and room == "room:members" and user == "stranger")

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: Say) -> None:
        await self.broadcast_to_room(self.room, Said(text=payload.text))

    @handles_message("ask")
    async def ask(self, ws: WebSocketLike, payload: Say) -> Answer:
        return Answer(text=f"{payload.text} in {self.room}")

    @handles_message("wait")
    async def wait(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.events.started.set()
        await self.events.release.wait()

    @handles_message("askClient")
    async def ask_client(self, ws: WebSocketLike, payload: dict[str, Any]) -> Answer:
        return Answer(text=await self.request("serverQuestion", {}, 3.0))

    @handles_message("fail")
    async def fail(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise RuntimeError("a handler failed")

    @handles_message("tell")
    async def tell(self, ws: WebSocketLike, payload: Say) -> None:
        """Send to all other connections of this user."""
        await self.broadcast_to_room(self.room, Said(text=payload.text), exclude_user=True)

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        self.events.ended.append((self.room.removeprefix("room:"), close_code))


def make_app(events: Events, **limits: Any) -> App:
    app = install(falcon.asgi.App(), server_limits=ServerLimits(handshake_burst=10_000))
    config = RouteConfig(limits=Limits(**{**msgspec_limits(), **limits}))
    app.add_websocket_route("/room/{name}", Room, events, route_config=config)
    app.add_rooms_route("/ws", "/room/{name}")
    return app


def msgspec_limits() -> dict[str, Any]:
    return {"messages_per_second": 10_000, "message_burst": 20_000}


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def app(events: Events) -> App:
    return make_app(events)


@pytest.fixture(params=["push", "portable"])
async def running(app: App, request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    options: dict[str, Any] = {"ws": PushProtocol} if request.param == "push" else {}
    async with run(app, check_contract=True, **options) as running:
        yield running


def texts(messages: list[Any]) -> list[str]:
    """Return the texts of messages, without the welcome."""
    found = [each["payload"]["text"] for each in messages if each["type"] == "said"]
    return [text for text in found if not text.startswith("welcome")]


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - the registry has no event for it
            await asyncio.sleep(0.005)


async def test_one_connection_is_in_several_rooms(running: Running) -> None:
    async with running.connect("/ws") as ada, running.connect("/room/b") as bob:
        a, b = await ada.join("a"), await ada.join("b")
        await bob.receive_until("serverPosition")
        await a.receive_until("serverPosition")
        await b.receive_until("serverPosition")
        await bob.send("say", {"text": "to b"})
        assert (await b.receive_until("said"))[-1]["payload"]["text"] == "to b"
        await a.send("say", {"text": "to a"})
        message = (await a.receive_until("said"))[-1]
        assert message["payload"] == {"text": "to a"}
        assert message["room"] == "a"
        assert message["id"]
        plain = (await bob.receive_until("said"))[-1]
        assert "room" not in plain


async def test_a_join_is_answered_before_the_messages_of_the_room(running: Running) -> None:
    async with running.connect("/ws") as ada:
        await ada.send({"type": "clientJoin", "payload": {"room": "a"}, "ref": "7"})
        messages = await ada.receive_until("serverPosition")
        messages = [each for each in messages if "room" in each] + (
            await ada.receive_until("serverPosition") if "id" not in messages[-1] else []
        )
        assert [each["type"] for each in messages] == ["serverJoined", "said", "serverPosition"]
        assert messages[0] == {"type": "serverJoined", "payload": {}, "ref": "7", "room": "a"}
        assert {each["room"] for each in messages} == {"a"}


async def test_a_refused_room_closes_nothing(running: Running) -> None:
    async with running.connect("/ws") as ada:
        a = await ada.join("a")
        with pytest.raises(JoinRefused) as refusal:
            await ada.join("private")
        assert (refusal.value.code, refusal.value.close_code) == ("refused", 4403)
        assert refusal.value.text == "by invitation only"
        with pytest.raises(JoinRefused) as refusal:
            await ada.join("closed")
        assert (refusal.value.code, refusal.value.close_code) == ("refused", 3403)
        with pytest.raises(JoinRefused) as refusal:
            await ada.join("x" * 201)
        assert (refusal.value.code, refusal.value.close_code) == ("invalidRoom", 4400)
        for name in ("", "a/b", "tab\t", "\u202e"):
            with pytest.raises(JoinRefused) as refusal:
                await ada.join(name)
            assert refusal.value.code == "invalidRoom"
        await a.send("say", {"text": "still here"})
        assert texts(await a.receive_until("serverPosition")) == []
        assert texts(await a.receive_until("said")) == ["still here"]


async def test_an_exception_ends_one_room_only(
    running: Running, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    async with running.connect("/ws") as ada:
        a, b = await ada.join("a"), await ada.join("b")
        with pytest.raises(JoinRefused) as refusal:
            await ada.join("broken")
        assert (refusal.value.code, refusal.value.close_code) == ("refused", 1011)
        await a.send("fail")
        assert (await a.receive_until("serverLeft"))[-1]["payload"]["code"] == 1011
        assert events.ended == [("a", 1011)]
        await b.send("say", {"text": "on"})
        await b.receive_until("serverPosition")
        assert texts(await b.receive_until("said")) == ["on"]
    assert "this room is broken" in caplog.text
    assert "a handler failed" in caplog.text


async def test_a_request_is_answered_in_its_room(running: Running) -> None:
    async with running.connect("/ws") as ada:
        a, b = await ada.join("a"), await ada.join("b")
        for room in (a, b):
            await room.send({"type": "ask", "payload": {"text": "where"}, "ref": "1"})
        for room, name in ((a, "a"), (b, "b")):
            reply = (await room.receive_until("answer"))[-1]
            assert reply["payload"] == {"text": f"where in room:{name}"}
            assert (reply["ref"], reply["room"]) == ("1", name)


async def test_a_handler_asks_its_client_in_its_room(running: Running) -> None:
    async with running.connect("/ws") as ada:
        a = await ada.join("a")
        await a.send({"type": "askClient", "payload": {}, "ref": "1"})
        question = (await a.receive_until("serverQuestion"))[-1]
        reply = {"type": "clientReply", "payload": {"result": "yes"}, "ref": question["ref"]}
        await a.send(reply)
        assert (await a.receive_until("answer"))[-1]["payload"] == {"text": "yes"}


async def test_a_message_for_another_room_is_an_error(running: Running) -> None:
    async with running.connect("/ws") as ada:
        await ada.receive_until("serverPosition")
        await ada.send({"type": "say", "payload": {"text": "?"}, "room": "a", "ref": "3"})
        error = await ada.receive()
        assert error["payload"]["code"] == "notJoined"
        assert (error["ref"], error["room"]) == ("3", "a")
        await ada.send({"type": "clientLeave", "payload": {"room": "a"}, "ref": "4"})
        error = await ada.receive()
        assert (error["payload"]["code"], error["ref"]) == ("notJoined", "4")
        rooms: tuple[Any, ...] = (5, [], {"a": 1}, True, 1.5)
        for room in rooms:
            await ada.send({"type": "say", "payload": {}, "room": room, "ref": "5"})
            error = await ada.receive()
            assert (error["payload"]["code"], error["ref"]) == ("invalidRoom", "5")
        await ada.send({"type": "say", "payload": {}, "room": None})
        assert (await ada.receive())["payload"]["code"] == "unknownMessage"


@pytest.mark.parametrize(
    "payload",
    [
        5,
        None,
        [],
        {"room": 5},
        {"room": None},
        {"rooms": "a"},
        {"rooms": [5]},
        {"rooms": [{}]},
        {"room": "a", "since": "x"},
        {"room": "a", "since": [5]},
        {"room": "a", "connection": {"a": 1}},
    ],
)
async def test_an_invalid_request_to_join_is_an_error(running: Running, payload: Any) -> None:
    async with running.connect("/ws") as ada:
        await ada.receive_until("serverPosition")
        for kind in ("clientJoin", "clientLeave"):
            await ada.send({"type": kind, "payload": payload, "ref": "1"})
            error = await ada.receive()
            code = error["payload"]["code"]
            assert (error["type"], error["ref"]) == ("serverError", "1")
            assert code == "invalidPayload" or (kind == "clientLeave" and code == "notJoined")
        await ada.send("clientPing")
        assert (await ada.receive())["type"] == "serverPong"


async def test_a_room_is_joined_once_and_again_after_a_leave(
    running: Running, events: Events
) -> None:
    async with running.connect("/ws") as ada:
        a = await ada.join("a")
        await ada.send({"type": "clientJoin", "payload": {"room": "a"}, "ref": "2"})
        error = (await a.receive_until("serverError"))[-1]
        assert (error["payload"]["code"], error["ref"]) == ("alreadyJoined", "2")
        left = (await a.leave())[-1]
        assert left["payload"] == {"code": 1000, "reason": ""}
        a = await ada.join("a")
        await a.send("say", {"text": "again"})
        await a.receive_until("serverPosition")
        assert texts(await a.receive_until("said")) == ["again"]
        assert events.ended == [("a", 1000)]


async def test_a_join_during_a_leave_waits_for_its_end(running: Running, events: Events) -> None:
    async with running.connect("/ws") as ada:
        a = await ada.join("a")
        await a.send("wait")
        await asyncio.wait_for(events.started.wait(), WAIT_SECONDS)
        await ada.send({"type": "clientLeave", "payload": {"room": "a"}, "ref": "1"})
        await ada.send({"type": "clientJoin", "payload": {"room": "a"}, "ref": "2"})
        await ada.send({"type": "clientPing", "ref": "3"})
        await ada.receive_until("serverPong")
        assert (await a.receive_until("serverLeft"))[-1]["ref"] == "1"
        assert events.ended == []
        events.release.set()
        assert (await a.receive_until("serverJoined"))[-1]["ref"] == "2"
        assert events.ended == [("a", 1000)]


async def test_a_leave_during_a_join_refuses_it(running: Running, events: Events) -> None:
    async with running.connect("/ws") as ada:
        await ada.send({"type": "clientJoin", "payload": {"room": "slow-join"}, "ref": "1"})
        await asyncio.wait_for(events.started.wait(), WAIT_SECONDS)
        await ada.send({"type": "clientLeave", "payload": {"room": "slow-join"}, "ref": "2"})
        refusal, left = (await ada.receive_until("serverLeft"))[-2:]
        assert (refusal["payload"]["code"], refusal["ref"]) == ("refused", "1")
        assert left["ref"] == "2"
        events.release.set()
        events.started.clear()
        a = await ada.join("slow-join")
        await a.receive_until("serverPosition")
    await wait_until(lambda: len(events.ended) == 1)


async def test_a_slow_handler_delays_its_room_only(running: Running, events: Events) -> None:
    async with running.connect("/ws") as ada:
        a, b = await ada.join("a"), await ada.join("b")
        await a.send("wait")
        await asyncio.wait_for(events.started.wait(), WAIT_SECONDS)
        for number in range(20):
            await a.send("ask", {"text": str(number)})
            await b.send("ask", {"text": str(number)})
        for number in range(20):
            reply = (await b.receive_until("answer"))[-1]
            assert reply["payload"]["text"] == f"{number} in room:b"
        events.release.set()
        for number in range(20):
            reply = (await a.receive_until("answer"))[-1]
            assert reply["payload"]["text"] == f"{number} in room:a"


async def test_a_flooded_room_pauses_the_client_and_loses_nothing(
    running: Running, events: Events
) -> None:
    async with running.connect("/ws") as ada:
        a, b = await ada.join("a"), await ada.join("b")
        await a.send("wait")
        await asyncio.wait_for(events.started.wait(), WAIT_SECONDS)
        for number in range(300):
            await a.send("ask", {"text": str(number)})
        await b.send("ask", {"text": "late"})
        events.release.set()
        for number in range(300):
            reply = (await a.receive_until("answer"))[-1]
            assert reply["payload"]["text"] == f"{number} in room:a"
        assert (await b.receive_until("answer"))[-1]["payload"]["text"] == "late in room:b"


async def test_the_end_of_the_connection_ends_all_rooms(
    running: Running, app: App, events: Events
) -> None:
    async with running.connect("/ws") as ada:
        for name in "abc":
            await ada.join(name)
        await ada.close(4321)
    await wait_until(lambda: len(events.ended) == 3)
    assert sorted(events.ended) == [("a", 4321), ("b", 4321), ("c", 4321)]
    registry = app.ws_connection_manager._registry
    assert not registry.channels
    assert not registry.pending
    assert not registry.connections


async def test_messages_before_a_disconnect_are_handled(running: Running) -> None:
    async with running.connect("/room/a") as bob, running.connect("/ws") as ada:
        await bob.receive_until("serverPosition")
        a = await ada.join("a")
        for number in range(10):
            await a.send("say", {"text": str(number)})
        await ada.close()
        found: list[str] = []
        while len(found) < 10:
            found += texts(await bob.receive_until("said"))
    assert found == [str(number) for number in range(10)]


async def test_a_user_is_sent_a_direct_message_once_per_connection(
    running: Running, app: App
) -> None:
    manager = app.ws_connection_manager
    async with (
        running.connect("/ws?user=ada") as ada,
        running.connect("/room/a?user=ada") as plain,
    ):
        a, b = await ada.join("a"), await ada.join("b")
        await manager.send_to_user("ada", Said(text="hello"))
        await ada.send("clientPing")
        assert texts(await ada.receive_until("serverPong")) == ["hello"]
        assert texts(await plain.receive_until("said")) == []
        assert texts(await plain.receive_until("said")) == ["hello"]
        for room in (a, b):
            await room.send("say", {"text": "end"})
            await room.receive_until("serverPosition")
            assert texts(await room.receive_until("said")) == ["end"]
        assert len(manager) == len(list(manager)) == 2


async def test_exclusions_reach_the_rooms_of_a_connection(running: Running) -> None:
    async with (
        running.connect("/ws?user=ada") as ada,
        running.connect("/ws?user=bob") as bob,
    ):
        a, other = await ada.join("a"), await bob.join("a")
        await a.receive_until("serverPosition")
        await other.receive_until("serverPosition")
        await a.send("tell", {"text": "to others"})
        await a.send("say", {"text": "to all"})
        assert texts(await a.receive_until("said")) == ["to all"]
        assert texts(await other.receive_until("said")) == ["to others"]
        assert texts(await other.receive_until("said")) == ["to all"]


async def test_closing_a_room_leaves_it_and_disconnecting_a_user_closes_the_connection(
    running: Running, app: App, events: Events
) -> None:
    manager = app.ws_connection_manager
    async with running.connect("/ws?user=ada") as ada:
        a, b = await ada.join("a"), await ada.join("b")
        await manager.close_room("room:a", 4001, "room closed")
        left = (await a.receive_until("serverLeft"))[-1]
        assert left["payload"] == {"code": 4001, "reason": "room closed"}
        await b.send("ask", {"text": "on"})
        await b.receive_until("answer")
        await manager.disconnect_user("ada", 4002, "goodbye")
        assert await ada.wait_closed() == (4002, "goodbye")
    await wait_until(lambda: len(events.ended) == 2)
    assert events.ended == [("a", 4001), ("b", 4002)]


async def test_a_ban_from_a_room_leaves_that_room(running: Running, app: App) -> None:
    manager = app.ws_connection_manager
    async with running.connect("/ws?user=ada") as ada:
        a, b = await ada.join("a"), await ada.join("b")
        await manager.ban("ada", room="room:a", seconds=60)
        assert (await a.receive_until("serverLeft"))[-1]["payload"]["code"] == 4403
        with pytest.raises(JoinRefused) as refusal:
            await ada.join("a")
        assert refusal.value.close_code == 4403
        await b.send("ask", {"text": "on"})
        await b.receive_until("answer")
        await manager.ban("ada", seconds=60)
        assert (await ada.wait_closed())[0] == 4403


async def test_presence_counts_a_user_once_over_plain_connections_and_rooms(
    running: Running, app: App
) -> None:
    async with (
        running.connect("/room/a?user=bob") as bob,
        running.connect("/ws?user=ada") as ada,
    ):
        await bob.receive_until("serverPosition")
        a = await ada.join("a")
        assert (await bob.receive_until("joined"))[-1]["payload"]["user"] == "ada"
        async with running.connect("/room/a?user=ada") as plain:
            await plain.receive_until("serverPosition")
            await a.leave()
            await plain.send("say", {"text": "still here"})
            messages = await bob.receive_until("said")
            assert [each["type"] for each in messages] == ["said"]
            assert await app.ws_connection_manager.occupancy("room:a") == 2
            a = await ada.join("a")
        await a.leave()  # The last one: announced at once.
        assert (await bob.receive_until("left"))[-1]["payload"]["user"] == "ada"


async def test_all_rooms_are_joined_again_with_their_positions(running: Running) -> None:
    async with running.connect("/ws") as ada:
        rooms = {name: await ada.join(name) for name in "abc"}
        since: dict[str, str] = {}
        previous: dict[str, str] = {}
        for name, room in rooms.items():
            position = (await room.receive_until("serverPosition"))[-1]
            previous[name] = position["payload"]["connection"]
            await room.send("say", {"text": "before"})
            since[name] = (await room.receive_until("said"))[-1]["id"]
        ada.vanish()
    async with AsyncExitStack() as stack:
        for name in "ab":
            other = await stack.enter_async_context(running.connect(f"/room/{name}"))
            for number in range(30):
                await other.send("say", {"text": f"{name}{number}"})
            await other.send({"type": "ask", "payload": {"text": "end"}, "ref": "1"})
            await other.receive_until("answer")
    async with running.connect("/ws") as ada:
        asked = [
            {"room": name, "since": [since[name]], "connection": [previous[name]]} for name in "abc"
        ]
        asked.append({"room": "private"})
        await ada.send({"type": "clientJoin", "payload": {"rooms": asked}, "ref": "9"})
        by_room: dict[str, list[Any]] = {}
        while sum(each[-1]["type"] in ENDS for each in by_room.values()) < 4:
            message = await ada.receive()
            if "room" in message:
                by_room.setdefault(message["room"], []).append(message)
    for name in "abc":
        messages = by_room[name]
        assert messages[0]["type"] == "serverJoined"
        assert messages[0]["ref"] == "9"
        expected = [f"{name}{number}" for number in range(30)] if name in "ab" else []
        assert texts(messages) == expected
        assert messages[-1]["payload"]["recovered"] is True
    assert by_room["private"][0]["payload"]["closeCode"] == 4403


ENDS = ("serverPosition", "serverError")


@pytest.mark.parametrize("ws", [PushProtocol, "websockets-sansio"])
async def test_missed_messages_of_many_rooms_fit_although_one_outbox_holds_few(
    events: Events, ws: Any
) -> None:
    app = make_app(events, outbox_messages=64)
    names = [f"room{number}" for number in range(40)]
    manager = app.ws_connection_manager
    async with run(app, ws=ws) as running:
        async with running.connect("/ws") as ada:
            for name in names:
                await ada.join(name)
            positions = {name: str(manager.backend.position(f"room:{name}")) for name in names}
            async with running.connect("/ws") as bob:
                for name in names:
                    await bob.join(name)
                ada.vanish()
                for name in names:
                    for number in range(25):
                        await manager.broadcast_to_room(f"room:{name}", Said(text=str(number)))
                    await bob.send("clientPing")
                    await bob.receive_until("serverPong")
        async with running.connect("/ws") as ada:
            rooms = [{"room": name, "since": [positions[name]]} for name in names]
            await ada.send({"type": "clientJoin", "payload": {"rooms": rooms}})
            found: dict[str, list[str]] = {name: [] for name in names}
            recovered = 0
            while recovered < len(names):
                message = await ada.receive()
                if message["type"] == "said":
                    found[message["room"]] += texts([message])
                recovered += message["payload"].get("recovered") is True
    assert all(each == [str(number) for number in range(25)] for each in found.values())


async def test_the_number_of_rooms_is_bounded(events: Events) -> None:
    app = make_app(events, rooms_per_connection=3)
    async with run(app) as running, running.connect("/ws") as ada:
        for name in "abc":
            await ada.join(name)
        with pytest.raises(JoinRefused) as refusal:
            await ada.join("d")
        assert refusal.value.code == "tooManyRooms"
        rooms = [{"room": str(number)} for number in range(4)]
        await ada.send({"type": "clientJoin", "payload": {"rooms": rooms}, "ref": "1"})
        error = (await ada.receive_until("serverError"))[-1]
        assert (error["payload"]["code"], error["ref"]) == ("tooManyRooms", "1")


async def test_a_hundred_rooms_are_joined_by_one_message(running: Running, app: App) -> None:
    async with running.connect("/ws") as ada:
        rooms = [{"room": f"r{number}"} for number in range(100)]
        await ada.send({"type": "clientJoin", "payload": {"rooms": rooms}})
        joined: set[str] = set()
        while len(joined) < 100:
            message = await ada.receive()
            assert message["type"] != "serverError"
            if message["type"] == "serverJoined":
                joined.add(message["room"])
        assert len(app.ws_connection_manager._registry.channels) == 100
        assert len(app.ws_connection_manager) == 1


@pytest.mark.parametrize("ws", [PushProtocol, "websockets-sansio"])
async def test_joins_and_leaves_without_end_are_bounded(events: Events, ws: Any) -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route(
        "/room/{name}",
        Room,
        events,
        route_config=RouteConfig(limits=Limits(messages_per_second=5, message_burst=20)),
    )
    app.add_rooms_route("/ws", "/room/{name}")
    async with run(app, ws=ws) as running, running.connect("/ws") as ada:
        reading = asyncio.create_task(ada.wait_closed(timeout_seconds=20))
        try:
            for number in range(10_000):
                name = f"r{number % 7}"
                await ada.send("clientJoin", {"room": name})
                await ada.send("clientLeave", {"room": name})
        except Closed:
            pass
        assert (await reading)[0] == 4029
    assert not app.ws_connection_manager._registry.channels


async def test_refused_rooms_use_up_the_rate_of_joins(events: Events) -> None:
    app = install(falcon.asgi.App(), server_limits=ServerLimits(connections_per_user=1))
    limits = Limits(rooms_per_connection=10, messages_per_second=0.001, message_burst=1_000)
    app.add_websocket_route("/room/{name}", Room, events, route_config=RouteConfig(limits=limits))
    app.add_rooms_route("/ws", "/room/{name}")
    async with run(app) as running, running.connect("/ws") as ada:
        for _ in range(10):
            with pytest.raises(JoinRefused) as refusal:
                await ada.join("private")
            assert refusal.value.close_code == 4403
        with pytest.raises(JoinRefused) as refusal:
            await ada.join("private")
        assert refusal.value.code == "tooManyMessages"


@pytest.mark.parametrize("room", ["", "private", "r"])
async def test_each_refusal_of_a_long_list_counts_as_a_message(events: Events, room: str) -> None:
    app = install(falcon.asgi.App())
    limits = Limits(messages_per_second=0.001, message_burst=100)
    app.add_websocket_route("/room/{name}", Room, events, route_config=RouteConfig(limits=limits))
    app.add_rooms_route("/ws", "/room/{name}")
    rooms = {"payload": {"rooms": [{"room": room}] * 100}, "type": "clientJoin"}
    async with run(app) as running, running.connect("/ws") as ada:
        with suppress(Closed):
            for _ in range(200):
                await ada.send(rooms)
        replies = 0
        with suppress(Closed):
            while replies < 1_000:
                replies += (await ada.receive())["type"] == "serverError"
        assert replies < 400
        assert (await ada.wait_closed())[0] == 4029


async def test_a_client_that_reads_nothing_is_closed_as_a_whole(events: Events) -> None:
    app = make_app(events, outbox_messages=20, close_seconds=0.5)
    manager = app.ws_connection_manager
    async with run(app, ws=PushProtocol) as running:
        async with running.connect("/ws", small_buffer=True) as ada:
            await ada.join("a")
            await ada.join("b")
            ada.pause_reading()
            for _ in range(200):
                await manager.broadcast_to_room("room:a", Said(text="x" * 4_000))
                await asyncio.sleep(0)
            await wait_until(lambda: len(events.ended) == 2)
        assert sorted(events.ended) == [("a", 4008), ("b", 4008)]


async def test_a_heartbeat_has_the_positions_of_all_rooms(events: Events) -> None:
    app = make_app(events, heartbeat_seconds=0.2)
    async with run(app) as running, running.connect("/ws") as ada:
        assert (await ada.receive())["payload"] == {"heartbeatSeconds": 0.2}
        a, b = await ada.join("a"), await ada.join("b")
        await a.send("say", {"text": "one"})
        first = (await a.receive_until("serverPosition"))[-1]
        assert "heartbeatSeconds" not in first["payload"]
        last = (await a.receive_until("said"))[-1]["id"]
        start = (await b.receive_until("serverPosition"))[-1]["id"]
        message = (await ada.receive_until("serverPosition"))[-1]
        while len(message["payload"].get("rooms", {})) < 2 or not message["payload"]["rooms"]["b"]:
            message = (await ada.receive_until("serverPosition"))[-1]
        assert message["payload"]["rooms"] == {"a": [last], "b": [start]}
        assert "room" not in message
        assert "id" not in message


async def test_other_users_of_a_room_are_seen(running: Running) -> None:
    async with running.connect("/ws?user=ada") as ada:
        a = await ada.join("a")
        await a.receive_until("serverPosition")
        async with running.connect("/room/a?user=bob") as bob:
            await bob.receive_until("serverPosition")
            assert (await a.receive_until("joined"))[-1]["payload"]["user"] == "bob"


def test_a_route_needs_another_one_with_one_field_more(events: Events) -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room/{name}", Room, events)
    with pytest.raises(RegistrationError, match="add that route first"):
        app.add_rooms_route("/ws", "/rooms/{name}")
    with pytest.raises(RegistrationError, match="cannot serve the rooms"):
        app.add_rooms_route("/ws/{name}", "/room/{name}")
    with pytest.raises(RegistrationError, match="cannot serve the rooms"):
        app.add_rooms_route("/ws/{tenant}", "/room/{name}")


async def test_a_converter_of_the_template_applies_to_the_name() -> None:
    found: list[Any] = []

    class Numbered(WebSocketResource):
        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
        ) -> bool:
            found.append(params)
            return True

    app = install(falcon.asgi.App())
    app.add_websocket_route("/{tenant}/table/{number:int}", Numbered)
    app.add_rooms_route("/{tenant}/ws", "/{tenant}/table/{number:int}")
    async with run(app) as running, running.connect("/acme/ws") as ada:
        await ada.join("12")
        with pytest.raises(JoinRefused) as refusal:
            await ada.join("twelve")
        assert refusal.value.code == "invalidRoom"
    assert found == [{"tenant": "acme", "number": 12}]


async def test_a_reply_in_another_room_is_not_taken(running: Running) -> None:
    async with running.connect("/ws") as ada:
        a, b = await ada.join("a"), await ada.join("b")
        await a.send({"type": "askClient", "payload": {}, "ref": "1"})
        question = (await a.receive_until("serverQuestion"))[-1]
        reply = {"type": "clientReply", "payload": {"result": "no"}, "ref": question["ref"]}
        await b.send(reply)
        await a.send({**reply, "payload": {"result": "yes"}})
        assert (await a.receive_until("answer"))[-1]["payload"] == {"text": "yes"}


async def test_bytes_are_of_the_connection_and_not_known(running: Running) -> None:
    async with running.connect("/ws") as ada:
        await ada.receive_until("serverPosition")
        await ada.send_raw(b"\x00\x01")
        assert (await ada.receive())["payload"]["code"] == "unknownMessage"
        await ada.send_raw('{"room": "a", ' * 1_000)
        assert (await ada.receive())["payload"]["code"] == "unknownMessage"
        await ada.send_raw(json.dumps({"type": "say", "room": "a" * 60_000}))
        assert (await ada.receive())["type"] == "serverError"
        await ada.send_raw(json.dumps({"type": "say", "room": "a", "payload": "x" * 70_000}))
        assert (await ada.wait_closed())[0] == 1009

"""Handlers that hang, fail or ignore their cancellation end their own connection at most."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import falcon.asgi
import pytest
from websockets.exceptions import InvalidStatus

from falcon_pachinko import (
    App,
    InvalidPayload,
    Limits,
    MessageError,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
    install,
)
from falcon_pachinko.connection.shield import timed_out_tasks
from falcon_pachinko.testing import Client, connect

from ..support.servers import RECEIVING_SERVERS, Endpoint

WAIT_SECONDS = 5.0
HANDLER_SECONDS = 0.2
CLOSE_SECONDS = 0.5


class Wicked(BaseException):
    """Not an Exception."""


class Room(WebSocketResource):
    """A room with handlers that do what their payload says."""

    limits = Limits(
        handler_seconds=HANDLER_SECONDS,
        close_seconds=CLOSE_SECONDS,
        on_connect_seconds=2 * HANDLER_SECONDS,
    )

    def __init__(self, events: list[str], stopped: asyncio.Event) -> None:
        self.events = events
        self.stopped = stopped

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.name = self.connection.user = name
        await self.join_room("room")
        if name in ENDINGS:
            await self.end(name)
        await ws.send_media({"type": "welcome", "payload": {}})
        return True

    async def end(self, ending: str) -> None:
        """End in a way of ENDINGS, or hang."""
        self.events.append(f"{self.name} {ending}")
        try:
            await ENDINGS[ending](self)
        except asyncio.CancelledError:
            self.events.append(f"{self.name} cancelled")
            raise

    @handles_message("do")
    async def do(self, ws: WebSocketLike, payload: dict[str, str]) -> None:
        await self.end(payload["how"])

    @handles_binary
    async def binary(self, ws: WebSocketLike, data: bytes) -> None:
        await self.end(data.decode())

    async def on_unhandled(self, ws: WebSocketLike, message: str | bytes) -> None:
        if "hang" in str(message):
            await self.end("hang")
        await super().on_unhandled(ws, message)

    async def on_invalid(
        self, ws: WebSocketLike, message: str | bytes, error: InvalidPayload
    ) -> None:
        await self.end("hang")

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        self.events.append(f"{self.name} left")
        if self.name.startswith("last-"):
            await self.end(self.name.removeprefix("last-"))


async def hang(room: Room) -> None:
    await asyncio.Event().wait()


async def swallow(room: Room) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


async def ignore(room: Room) -> None:
    while not room.stopped.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await room.stopped.wait()


async def take_a_while(room: Room) -> None:
    await asyncio.sleep(HANDLER_SECONDS / 2)
    room.events.append(f"{room.name} finished")


async def fail_late(room: Room) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ZeroDivisionError("too late")


async def complain_late(room: Room) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise MessageError("Interrupted.")


async def in_a_group(room: Room) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(hang(room))


async def exit(room: Room) -> None:
    raise SystemExit(3)


async def be_wicked(room: Room) -> None:
    raise Wicked


async def recurse(room: Room) -> None:
    await recurse(room)


async def use_all_memory(room: Room) -> None:
    raise MemoryError


async def leave_generator(room: Room) -> None:
    raise GeneratorExit


ENDINGS = {
    each.__name__: each
    for each in (
        hang,
        swallow,
        ignore,
        take_a_while,
        fail_late,
        complain_late,
        in_a_group,
        exit,
        be_wicked,
        recurse,
        use_all_memory,
        leave_generator,
    )
}
CRASHES = ["exit", "be_wicked", "recurse", "use_all_memory", "leave_generator"]


class World:
    """A served application with one room."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.stopped = asyncio.Event()
        self.app: App = install(falcon.asgi.App())
        self.app.add_websocket_route("/{name}", Room, self.events, self.stopped)
        self.manager = self.app.ws_connection_manager
        self.server = ""
        self.served: Endpoint
        self.stack = AsyncExitStack()

    async def join(self, name: str) -> Client:
        """Connect as a user, and wait for the welcome."""
        client = await self.stack.enter_async_context(connect(self.served.ws_url(f"/{name}")))
        await client.receive_until("welcome")
        return client

    async def wait_event(self, event: str) -> None:
        """Wait until an event is recorded."""
        async with asyncio.timeout(WAIT_SECONDS):
            while event not in self.events:  # noqa: ASYNC110 (a list sets no event)
                await asyncio.sleep(0.001)

    async def wait_members(self, *names: str) -> None:
        """Wait until these users are in the room, and no connection is left that is not in it."""
        registry = self.manager._registry
        async with asyncio.timeout(WAIT_SECONDS):
            while [c.user for c in registry.synced.rooms_by_member] != list(names):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert await self.manager.members("room") == list(names)
        assert not registry.pending


@pytest.fixture(params=RECEIVING_SERVERS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A served application, on each server in turn; nothing of it is left behind."""
    world = World()
    world.server = request.param
    async with RECEIVING_SERVERS[world.server](world.app) as world.served:
        async with world.stack:
            yield world
        world.stopped.set()
        async with asyncio.timeout(WAIT_SECONDS):
            while timed_out_tasks:
                await asyncio.wait(timed_out_tasks.copy())


async def check_usable(client: Client) -> None:
    """Check that a client's messages are handled."""
    await client.send("unknown")
    error = (await client.receive_until("serverError"))[-1]
    assert error["payload"]["code"] == "unknownMessage"


def lines_about(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [r.message for r in caplog.records if r.levelno >= logging.ERROR and text in r.message]


@pytest.mark.parametrize("ending", ["hang", "swallow", "fail_late", "complain_late", "in_a_group"])
async def test_slow_handler_is_cancelled_and_its_client_stays_connected(
    world: World, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await world.join("alice")
    for _ in range(2):
        await alice.send("do", {"how": ending})
        error = (await alice.receive_until("serverError"))[-1]
        assert error["payload"]["code"] == "timeout"
        await check_usable(alice)
    expected = f"Room.do took more than {HANDLER_SECONDS} s and was cancelled"
    assert lines_about(caplog, "Room.do") == [expected] * 2
    assert caplog.text.count("ZeroDivisionError: too late") == 2 * (ending == "fail_late")
    await alice.aclose()
    await world.wait_members()
    assert world.events.count("alice left") == 1


@pytest.mark.parametrize(
    ("message", "method"),
    [
        (b"hang", "Room.binary"),
        ("hang", "Room.on_unhandled"),
        ('{"type": "do", "payload": 5}', "Room.on_invalid"),
    ],
    ids=["binary", "on_unhandled", "on_invalid"],
)
async def test_each_method_that_handles_a_message_has_the_same_time(
    world: World, message: str | bytes, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await world.join("alice")
    await alice.send_raw(message)
    error = (await alice.receive_until("serverError"))[-1]
    assert error["payload"]["code"] == "timeout"
    await check_usable(alice)
    assert len(lines_about(caplog, f"{method} took more than")) == 1


async def test_handler_that_ignores_its_cancellation_is_left_behind(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = await world.join("alice"), await world.join("bob")
    await alice.send("do", {"how": "ignore"})
    assert (await alice.wait_closed())[0] == 1011
    await world.wait_members("bob")
    await check_usable(bob)
    assert len(lines_about(caplog, "Room.do took more than")) == 1
    assert len(lines_about(caplog, "Room.do ignored its cancellation")) == 1
    assert "Traceback" not in caplog.text
    assert world.events.count("alice left") == 1
    world.stopped.set()
    await asyncio.wait(timed_out_tasks.copy())
    assert world.events.count("alice left") == 1


@pytest.mark.parametrize("ending", ["hang", "swallow", "fail_late", "ignore"])
async def test_disconnected_client_leaves_its_rooms_while_its_handler_hangs(
    world: World, ending: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "falcon_pachinko")
    limits = Limits(handler_seconds=None, close_seconds=CLOSE_SECONDS)
    monkeypatch.setattr(Room, "limits", limits)
    world.app.add_websocket_route("/patient/{name}", Room, world.events, world.stopped)
    alice, bob = await world.join("patient/alice"), await world.join("bob")
    await alice.send("do", {"how": ending})
    await alice.send("do", {"how": "hang"})
    await world.wait_event(f"alice {ending}")
    await alice.aclose()
    await world.wait_members("bob")
    await check_usable(bob)
    assert world.events.count("alice left") == 1
    assert "alice hang" not in world.events[world.events.index(f"alice {ending}") + 1 :]
    assert caplog.text.count("Room.do was cancelled: its connection has closed") == 1
    assert len(lines_about(caplog, "Room.do")) == (ending == "ignore")


async def test_handler_may_finish_after_a_disconnect(world: World) -> None:
    alice = await world.join("alice")
    await alice.send("do", {"how": "take_a_while"})
    await world.wait_event("alice take_a_while")
    await alice.aclose()
    await world.wait_event("alice finished")
    await world.wait_members()
    assert "alice cancelled" not in world.events


@pytest.mark.parametrize("ending", ["hang", "swallow", "fail_late", "ignore"])
async def test_slow_on_connect_is_refused_and_has_no_effect(
    world: World, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        await world.join(ending)
    await world.wait_members()
    assert f"{ending} left" not in world.events
    assert len(lines_about(caplog, "Room.on_connect took more than")) == 1
    world.stopped.set()
    await asyncio.sleep(0)
    await world.wait_members()


@pytest.mark.parametrize("ending", CRASHES)
@pytest.mark.parametrize("place", ["handler", "on_connect", "on_disconnect"])
async def test_any_exception_ends_its_connection_only(
    world: World, ending: str, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    bob = await world.join("bob")
    if place == "on_connect":
        with pytest.raises(InvalidStatus):
            await world.join(ending)
    elif place == "handler":
        alice = await world.join("alice")
        await alice.send("do", {"how": ending})
        assert (await alice.wait_closed())[0] == 1011
    else:
        alice = await world.join(f"last-{ending}")
        await alice.aclose()
    await world.wait_members("bob")
    await check_usable(bob)
    assert world.events.count("alice left") == (place == "handler")
    assert "Traceback" in caplog.text


async def test_handler_that_waits_for_its_own_client_has_the_time_of_a_stalled_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Talker(Room):
        limits = Limits(handler_seconds=0.05, stall_seconds=1.0, outbox_bytes=2**30)

        @handles_message("talk")
        async def talk(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            self.events.append("talks")
            while not ws.closed:
                await ws.send_text("x" * 1_000_000)

    world = World()
    world.app.add_websocket_route("/talk/{name}", Talker, world.events, world.stopped)
    caplog.set_level(logging.INFO)
    async with (
        RECEIVING_SERVERS["push"](world.app) as served,
        connect(served.ws_url("/talk/alice"), small_buffer=True) as alice,
    ):
        await alice.receive_until("welcome")
        alice.pause_reading()
        await alice.send("talk")
        async with asyncio.timeout(WAIT_SECONDS):
            while "is closed with 4008" not in caplog.text:  # noqa: ASYNC110 (the log sets no event)
                await asyncio.sleep(0.01)
    assert lines_about(caplog, "took more than") == []


@pytest.mark.parametrize("ending", ["hang", "ignore"])
async def test_cancelled_server_task_ends_within_close_seconds(ending: str) -> None:
    world = World()
    world.app.add_websocket_route("/room/{name}", Room, world.events, world.stopped)
    async with RECEIVING_SERVERS["push"](world.app) as world.served, world.stack:
        alice = await world.join("alice")
        await alice.send("do", {"how": ending})
        await world.wait_event(f"alice {ending}")
        (task,) = [t for t in asyncio.all_tasks() if "run_asgi" in repr(t.get_coro())]
        task.cancel()
        await asyncio.wait({task}, timeout=WAIT_SECONDS)
        assert task.done()
        await world.wait_members()
        assert world.events.count("alice left") == 1
    world.stopped.set()

"""A connection cancelled at any await releases everything."""

import asyncio
import contextlib
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import App, WebSocketLike, WebSocketResource, handles_message, install

SCOPE = {
    "type": "websocket",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "path": "/room",
    "headers": [(b"host", b"127.0.0.1")],
    "query_string": b"",
    "scheme": "ws",
    "subprotocols": [],
}
EVENTS: list[dict[str, Any]] = [
    {"type": "websocket.connect"},
    {"type": "websocket.receive", "text": '{"type": "say"}'},
    {"type": "websocket.receive", "text": '{"type": "say"}'},
    {"type": "websocket.disconnect", "code": 1001},
]
WAIT_SECONDS = 5.0


class Room(WebSocketResource):
    """A resource that awaits in every method."""

    def __init__(self, disconnects: list[int]) -> None:
        self.disconnects = disconnects

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        await self.join_room("room")
        await asyncio.sleep(0)
        await ws.send_text("welcome")
        await self.broadcast_to_room("room", "joined")
        await asyncio.sleep(0)
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        await ws.send_text("said")
        await asyncio.sleep(0)

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        await asyncio.sleep(0)
        self.disconnects.append(close_code)
        await asyncio.sleep(0)


class Server:
    """An ASGI server that yields to the loop around each operation."""

    def __init__(self, app: App) -> None:
        self.app = app
        app.ws_lifespan.checked = True  # as after the start by a server
        self.accepted = asyncio.Event()
        self.events = iter(EVENTS)
        self.connected = False

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.connected:
            await self.accepted.wait()
        self.connected = True
        return next(self.events)

    async def send(self, event: Any) -> None:
        await asyncio.sleep(0)
        if event["type"] == "websocket.accept":
            self.accepted.set()
        await asyncio.sleep(0)


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
async def test_cancellation_at_every_await_ends_cleanly(times: int) -> None:
    for turns in range(100):
        disconnects: list[int] = []
        app = install(falcon.asgi.App())
        app.add_websocket_route("/room", Room, disconnects)
        server = Server(app)
        task = asyncio.create_task(app(SCOPE, server.receive, server.send))
        for _ in range(turns):
            await asyncio.sleep(0)
        ended_by_itself = task.done()
        accepted = server.accepted.is_set()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.wait({task}), WAIT_SECONDS)
        assert task.cancelled() is not ended_by_itself
        assert len(disconnects) <= accepted, "on_disconnect without an accept, or twice"
        rooms = app.ws_connection_manager._registry.synced
        assert (rooms.members_by_room, rooms.rooms_by_member, disconnects[1:]) == ({}, {}, [])
        assert len(app.ws_connection_manager) == 0
        if ended_by_itself:
            assert disconnects == [1001]
            break
    else:
        pytest.fail("the connection never ended by itself")
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_connection_of_an_event_loop_that_was_discarded_calls_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disconnects: list[int] = []
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room", Room, disconnects)

    class Quiet(Server):
        async def receive(self) -> dict[str, Any]:
            if self.connected:
                await asyncio.Event().wait()
            return await super().receive()

    async def begin() -> asyncio.Task[None]:
        server = Quiet(app)
        task = asyncio.create_task(app(SCOPE, server.receive, server.send))
        await asyncio.wait_for(server.accepted.wait(), WAIT_SECONDS)
        while len(app.ws_connection_manager) == 0:  # noqa: ASYNC110 (it sets no event)
            await asyncio.sleep(0)
        return task

    loop = asyncio.new_event_loop()
    task: Any = loop.run_until_complete(begin())
    loop.close()
    with contextlib.suppress(RuntimeError):  # the outbox needs a running event loop
        task.get_coro().close()  # as the interpreter does at its end
    assert disconnects == []
    assert [r for r in caplog.records if r.name.startswith("falcon_pachinko")] == []
    assert len(app.ws_connection_manager) == 0

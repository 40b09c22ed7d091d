"""The fields that log records have for a connection, and the line at its end."""

import asyncio
import logging
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import Reject, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.connection.log_context import current_fields
from falcon_pachinko.testing import serve
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol

logger = logging.getLogger("application")


class Logging(WebSocketResource):
    """Logs in each method, and in a task that a handler starts."""

    async def on_connect(self, req: Any, ws: WebSocketLike, *args: Any, **params: Any) -> bool:
        logger.info("in on_connect")
        name = params.get("name", "alice")
        if name == "mallory":
            raise Reject(4403, "no")
        self.connection.user = name
        await self.join_room(f"room {params.get('room', 'red')}")
        return True

    @handles_message("work")
    async def work(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        logger.info("in a handler")
        await asyncio.create_task(self.report("in a task"))
        await ws.send_media({"type": "worked"})

    @handles_message("post")
    async def post(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("room red", {"type": "posted", "payload": payload}, **payload)

    @handles_message("later")
    async def later(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        asyncio.get_running_loop().call_later(0.05, lambda: logger.info("in a timer"))

    async def report(self, text: str) -> None:
        logger.info(text)

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        logger.info("in on_disconnect")


class Records(logging.Handler):
    """Keeps each record with the fields of the connection whose code has made it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = current_fields()
        given = {name: value for name, value in vars(record).items() if name in KNOWN}
        self.found.append((record.levelname, record.getMessage(), fields | given))

    def named(self, text: str) -> list[dict[str, Any]]:
        """Return the fields of the records whose message contains a text."""
        return [fields for _, message, fields in self.found if text in message]


KNOWN = {
    "bytes_in",
    "bytes_out",
    "close_code",
    "connection_id",
    "message_type",
    "messages_in",
    "messages_out",
    "room",
    "route",
    "seconds",
    "user_id",
}


@pytest.fixture
def records() -> Any:
    """The records of this test."""
    handler, root = Records(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


def serving(push: bool) -> Any:
    """Serve the resource, on the path of uvicorn or on that of any server."""
    app = install(falcon.asgi.App())
    app.add_websocket_route("/hall/{name}/{room}", Logging)
    app.add_websocket_route("/{room}", Logging)
    app.add_rooms_route("/rooms", "/{room}")
    options: dict[str, Any] = (
        {"ws": PushProtocol, "http": BoundedHTTPProtocol} if push else {"ws": "websockets-sansio"}
    )
    return serve(app, **options)


async def wait_for(records: Records, text: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait for records; return their fields."""
    for _ in range(1_000):
        if len(found := records.named(text)) >= count:
            break
        await asyncio.sleep(0.01)
    assert len(found) == count
    return found


@pytest.mark.parametrize("push", [True, False])
async def test_each_method_and_its_tasks_have_the_fields_of_their_connection(
    push: bool, records: Records
) -> None:
    async with serving(push) as running:
        async with running.connect("/hall/alice/red") as alice:
            await alice.send("work")
            await alice.receive()
        await wait_for(records, "Logging: closed")
    [connect] = records.named("in on_connect")
    assert connect.keys() == {"connection_id", "route"}
    [work], [task] = records.named("in a handler"), records.named("in a task")
    known = {"user_id": "alice", "room": "room red", "route": "/hall/{name}/{room}"}
    assert work == task == connect | known | {"message_type": "work"}
    [bye] = records.named("in on_disconnect")
    assert bye == connect | known | {"close_code": 1000}
    assert current_fields() == {}


@pytest.mark.parametrize("push", [True, False])
async def test_one_line_at_the_end_has_all_counts(push: bool, records: Records) -> None:
    async with serving(push) as running:
        async with (
            running.connect("/hall/alice/red") as alice,
            running.connect("/hall/bob/red") as bob,
        ):
            await alice.send("post", {"exclude_self": True})
            await bob.receive()
            await alice.send("post", {})
            first = await alice.receive()
            assert first == await bob.receive()
            await alice.send("work")
            await alice.receive()
        found = {
            fields["user_id"]: fields for fields in await wait_for(records, "Logging: closed", 2)
        }
    alice_end, bob_end = found["alice"], found["bob"]
    assert (alice_end["messages_in"], alice_end["messages_out"]) == (3, 2)
    assert (bob_end["messages_in"], bob_end["messages_out"]) == (0, 2)
    assert alice_end["room"] == "room red"
    assert alice_end["close_code"] == 1000
    assert 0 <= alice_end["seconds"] < 20
    if push:
        assert alice_end["bytes_in"] > alice_end["bytes_out"] > 40
        assert bob_end["bytes_out"] == sum(
            len(f'{{"type":"posted","payload":{payload}}}')
            for payload in ('{"exclude_self":true}', "{}")
        )
    else:
        assert "bytes_in" not in alice_end


async def test_a_refused_connection_has_its_line_too(records: Records) -> None:
    async with serving(True) as running:
        async with running.connect("/hall/mallory/red") as mallory:
            assert (await mallory.wait_closed())[0] == 4403
        found = await wait_for(records, "Logging: refused")
    assert found[0]["messages_in"] == 0


async def test_rooms_of_one_connection_have_fields_of_their_own(records: Records) -> None:
    async with serving(True) as running:
        async with running.connect("/rooms") as alice:
            await alice.socket.send('{"type":"clientJoin","payload":{"room":"blue"},"ref":"1"}')
            await alice.receive()
            await alice.socket.send('{"type":"work","room":"blue","payload":{}}')
            await alice.receive()
        await wait_for(records, ": closed", 2)
    [work] = records.named("in a handler")
    assert (work["room"], work["route"]) == ("room blue", "/{room}")
    assert work["message_type"] == "work"


async def test_a_timer_that_a_handler_has_started_belongs_to_its_connection(
    records: Records,
) -> None:
    async with serving(True) as running, running.connect("/hall/alice/red") as alice:
        await alice.send("later")
        await wait_for(records, "in a timer")
    [timer] = records.named("in a timer")
    assert timer["user_id"] == "alice"


async def test_at_the_level_debug_each_message_is_logged(records: Records) -> None:
    async with serving(True) as running:
        async with running.connect("/hall/alice/red") as alice:
            await alice.send("work")
            await alice.receive()
        await wait_for(records, "Logging: closed")
    [message] = records.named("Logging: a message")
    assert message["message_type"] == "work"
    assert message["user_id"] == "alice"


def test_outside_of_a_connection_there_are_no_fields() -> None:
    assert current_fields() == {}

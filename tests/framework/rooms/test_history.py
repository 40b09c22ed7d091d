"""What a joining client gets of a room's past, pages of it, and a service's own snapshot beside it."""

import asyncio
import json
from typing import Any, ClassVar

import falcon.asgi
import pytest

from falcon_pachinko import (
    History,
    Limits,
    Message,
    WebSocketLike,
    WebSocketResource,
    handles_message,
)
from falcon_pachinko.errors import MessageError
from falcon_pachinko.testing import Client

from ..support.chat_cluster import ChatCluster, running_chat

pytestmark = pytest.mark.redis


class ServerSaid(Message, frozen=True):
    text: str


class ServerDocument(Message, frozen=True):
    lines: list[str]


class Recent(WebSocketResource):
    """A room whose last messages a client gets when it joins."""

    history: ClassVar[History | None] = History(messages=100, seconds=60.0)
    limits = Limits(outbox_messages=40, messages_per_second=10_000)

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, name: str, recent: str
    ) -> bool:
        self.connection.user = name
        await self.join_room("lobby", recent=int(recent))
        await ws.send_media({"type": "welcome"})
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("lobby", ServerSaid(text=payload["text"]))

    @handles_message("sayToOthers")
    async def say_to_others(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("lobby", ServerSaid(text=payload["text"]), exclude_user=True)


class Document(Recent):
    """A document to which each member can add a line; it is written before the line is sent."""

    lines: ClassVar[list[str]] = []
    seconds: float

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, name: str, recent: str
    ) -> bool:
        self.connection.user = name
        await self.join_room("document")
        await asyncio.sleep(float(recent))  # while lines are added
        position = await self.position("document")
        assert position is not None
        await asyncio.sleep(float(recent))
        await ws.send_media(ServerDocument(lines=list(self.lines)))
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.lines.append(payload["text"])
        await self.broadcast_to_room("document", ServerSaid(text=payload["text"]))


def with_routes(cluster: ChatCluster) -> ChatCluster:
    """Add routes to the nodes."""
    Document.lines.clear()
    for served, _ in cluster.nodes:
        app: Any = served.server.config.app
        app.add_websocket_route("/recent/{name}/{recent}", Recent)
        app.add_websocket_route("/document/{name}/{recent}", Document)
    return cluster


@pytest.fixture
async def room(cluster: ChatCluster) -> ChatCluster:
    return with_routes(cluster)


async def say(client: Client, *texts: str, kind: str = "say") -> None:
    for text in texts:
        await client.send(kind, {"text": text})


async def joined(client: Client) -> tuple[list[Any], Any]:
    """Return the texts that a client has received before the position, and the position's message."""
    messages = await client.receive_until("serverPosition")
    assert messages[0] == {"type": "welcome"}
    return [each["payload"]["text"] for each in messages[1:-1]], messages[-1]


async def texts(client: Client, count: int) -> list[str]:
    return [(await client.receive(ServerSaid)).text for _ in range(count)]


async def test_a_client_gets_the_last_messages_before_the_position(room: ChatCluster) -> None:
    alice = await room.connect(0, "/recent/alice/0")
    assert (await joined(alice))[0] == []
    await say(alice, *map(str, range(10)))
    assert await texts(alice, 10) == [str(each) for each in range(10)]
    for recent, expected in ((3, 3), (50, 10), (0, 0)):
        client = await room.connect(1, f"/recent/bob/{recent}")
        found, position = await joined(client)
        assert found == [str(each) for each in range(10 - expected, 10)]
        assert "recovered" not in position["payload"]
        assert position["id"].endswith(":10")


async def test_messages_that_exclude_the_user_stay_excluded(room: ChatCluster) -> None:
    alice = await room.connect(0, "/recent/alice/0")
    await joined(alice)
    await say(alice, "for all")
    await say(alice, "for others", kind="sayToOthers")
    await say(alice, "for all again")
    assert await texts(alice, 2) == ["for all", "for all again"]
    again = await room.connect(1, "/recent/alice/2")
    assert (await joined(again))[0] == ["for all again"]
    bob = await room.connect(1, "/recent/bob/2")
    assert (await joined(bob))[0] == ["for others", "for all again"]


async def test_the_last_messages_take_half_of_the_outbox(room: ChatCluster) -> None:
    alice = await room.connect(0, "/recent/alice/0")
    await joined(alice)
    await say(alice, *map(str, range(30)))
    assert len(await texts(alice, 30)) == 30
    bob = await room.connect(1, "/recent/bob/100")
    found, _ = await joined(bob)
    assert found == [str(each) for each in range(10, 30)]


async def test_a_reconnecting_client_gets_what_it_has_missed_or_else_the_last(
    room: ChatCluster,
) -> None:
    alice = await room.connect(0, "/recent/alice/0")
    await joined(alice)
    await say(alice, *map(str, range(8)))
    await texts(alice, 8)
    bob = await room.connect(1, "/recent/bob/0")
    _, position = await joined(bob)
    epoch = position["id"].partition(":")[0]
    for since, expected, recovered in (
        (f"{epoch}:6", [6, 7], True),
        ("0123456789abcdef:3", [7], False),
    ):
        again = await room.connect(1, f"/recent/bob/1?since={since}")
        found, position = await joined(again)
        assert found == [str(each) for each in expected]
        assert position["payload"]["recovered"] is recovered


async def test_no_message_is_missing_or_repeated_between_the_last_and_the_live_ones(
    room: ChatCluster,
) -> None:
    alice = await room.connect(0, "/recent/alice/0")
    await joined(alice)

    async def join(number: int) -> list[int]:
        client = await room.connect(number, f"/recent/user{number}/15")
        found, _ = await joined(client)
        while not found or found[-1] != "last":
            found += await texts(client, 1)
        return [int(each) for each in found[:-1]]

    joins = []
    for number in range(60):
        await say(alice, str(number))
        if number % 6 == 5:
            joins.append(asyncio.create_task(join(number)))
        await texts(alice, 1)
    await say(alice, "last")
    for found in await asyncio.gather(*joins):
        assert found == list(range(found[0], 60))


async def test_a_negative_number_of_messages_is_refused(room: ChatCluster) -> None:
    alice = await room.connect(0, "/recent/alice/0")
    await joined(alice)
    (connection,) = room.manager(0)
    with pytest.raises(ValueError, match="recent is -1"):
        await room.manager(0).join_room(connection, "another", recent=-1)


async def test_pages_of_the_history(room: ChatCluster) -> None:
    alice = await room.connect(0, "/recent/alice/0")
    await joined(alice)
    await say(alice, *map(str, range(5)))
    await say(alice, "5", kind="sayToOthers")
    await texts(alice, 5)
    manager = room.manager(1)
    page = await manager.history("lobby", limit=4)
    assert [each.decode()["payload"]["text"] for each in page] == ["2", "3", "4", "5"]
    newest = page[-1].decode()
    assert newest["id"] == str(page[-1].position)
    assert newest["at"] == page[-1].published_ms
    assert newest["type"] == "serverSaid"
    for before in (page[0].position, str(page[0].position)):
        earlier = await manager.history("lobby", before=before, limit=4)
        assert [json.loads(each.data)["payload"]["text"] for each in earlier] == ["0", "1"]
    assert await manager.history("lobby", before=earlier[0].position) == []
    assert await manager.history("nowhere") == []
    (connection,) = room.manager(0)
    own = await manager.history("lobby", limit=3, connection=connection)
    assert [each.decode()["payload"]["text"] for each in own] == ["2", "3", "4"]


async def test_a_page_that_cannot_be_read_is_refused(room: ChatCluster) -> None:
    for limit in (0, 1_001):
        with pytest.raises(ValueError, match=f"limit is {limit}"):
            await room.manager(0).history("lobby", limit=limit)
    for text in ("", "7", "epoch:", "epoch:-1", "e" * 100 + ":1"):
        with pytest.raises(MessageError) as error:
            await room.manager(0).history("lobby", before=text)
        assert error.value.code == "invalidPosition"


LINES = 60


async def add_lines(room: ChatCluster, seconds: float) -> list[tuple[list[int], list[int]]]:
    """Add lines while clients join; return the lines of each client's document, and of its messages after it."""
    alice = await room.connect(0, "/document/alice/0")
    await alice.receive_until("serverPosition")

    async def join(number: int) -> tuple[list[int], list[int]]:
        client = await room.connect(number, f"/document/user{number}/{seconds}")
        document = [int(each) for each in (await client.receive(ServerDocument)).lines]
        live: list[int] = []
        while (live or document)[-1] < LINES - 1:
            message = await client.receive()
            if message["type"] == "serverSaid":
                live.append(int(message["payload"]["text"]))
        return document, live

    joins = []
    for number in range(LINES):
        await say(alice, str(number))
        if number % 6 == 5:
            joins.append(asyncio.create_task(join(number)))
        await alice.receive_until("serverSaid")
    return await asyncio.gather(*joins)


async def test_a_snapshot_of_a_database_has_no_gap_to_the_live_messages(room: ChatCluster) -> None:
    for document, live in await add_lines(room, 0.02):
        assert document == list(range(len(document)))
        assert live == list(range(LINES - len(live), LINES))
        assert len(document) + len(live) >= LINES


async def test_in_one_process_a_snapshot_without_an_await_repeats_nothing() -> None:
    async with running_chat(None) as cluster:
        for document, live in await add_lines(with_routes(cluster), 0.0):
            assert document + live == list(range(LINES))


async def test_a_retracted_message_is_gone(room: ChatCluster) -> None:
    alice = await room.connect(0, "/recent/alice/0")
    _, position = await joined(alice)
    await say(alice, "kept", "secret", "kept too")
    await texts(alice, 3)
    manager = room.manager(1)
    secrets = [
        each.position
        for each in await manager.history("lobby")
        if each.decode()["payload"]["text"] == "secret"
    ]
    retracted = await manager.retract("lobby", secrets, ServerSaid(text="one is gone"))
    assert await texts(alice, 1) == ["one is gone"]
    (last,) = await manager.history("lobby", limit=1)
    assert last.position == retracted
    for path in ("/recent/bob/50", f"/recent/carol/0?since={position['id']}"):
        found, after = await joined(await room.connect(1, path))
        assert found == ["kept", "kept too", "one is gone"]
        assert after["payload"].get("recovered") in (None, True)
    with pytest.raises(ValueError, match="1001 positions are given"):
        await manager.retract("lobby", secrets * 1_001, ServerSaid(text="none"))

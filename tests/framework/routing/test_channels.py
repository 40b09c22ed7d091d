"""The rooms of one connection: its session, its user, several nodes, requests that are handled once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import (
    App,
    History,
    Message,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.testing import JoinRefused, Running, run
from falcon_pachinko.uvicorn import PushProtocol

from ..support.redis_servers import RedisServer, running_redis

CLIENT = "0123456789abcdef" * 2


@dataclass(frozen=True)
class User:
    id: str
    roles: str = "member"
    session_id: str = "s1"


class Said(Message, frozen=True):
    text: str


class Left(Message, frozen=True):
    user: str


class Club(WebSocketResource):
    """A room whose members need a role: its name, or ``member``."""

    history = History()
    handled = 0
    joining: asyncio.Event | None = None

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.room = f"club:{name}"
        user = self.connection.user or ""
        if name.startswith("as-"):
            self.connection.user = name
        await self.join_room(self.room, leave_message=Left(user=user))
        if name == "slow":
            assert Club.joining is not None
            await Club.joining.wait()
        await ws.send_media(Said(text=getattr(req.context.user, "roles", "")))
        return True

    async def authorize(self, user: Any, action: str, room: str | None) -> bool:
        return (
            room is None or user is None or room.removeprefix("club:") not in user.roles.split("!")
        )

    @handles_message("say", once=True)
    async def say(self, ws: WebSocketLike, payload: dict[str, str]) -> None:
        Club.handled += 1
        await self.broadcast_to_room(self.room, Said(text=payload["text"]))


class Sign:
    """Finds users by their tokens."""

    users: dict[str, User]

    def __init__(self) -> None:
        self.users = {"t": User("ada")}

    async def process_request(self, req: Any, resp: Any) -> None: ...

    async def process_request_ws(self, req: Any, ws: Any) -> None:
        req.context.user = self.users.get(req.get_param("token") or "")

    async def authenticate(self, token: str) -> User | None:
        return self.users.get(token)


def make_app(sign: Sign, url: str = "") -> App:
    app = install(
        falcon.asgi.App(middleware=[sign]),
        authenticate=sign.authenticate,
        backend=backend_from_url(url),
    )
    app.add_websocket_route("/club/{name}", Club)
    app.add_rooms_route("/ws", "/club/{name}")
    return app


@pytest.fixture
def sign() -> Sign:
    Club.handled, Club.joining = 0, asyncio.Event()
    return Sign()


@pytest.fixture(params=[PushProtocol, "websockets-sansio"])
async def running(sign: Sign, request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with run(make_app(sign), ws=request.param) as running:
        yield running


async def test_a_refresh_leaves_the_rooms_that_refuse_the_new_roles(
    running: Running, sign: Sign
) -> None:
    sign.users["next"] = User("ada", roles="member!a")
    async with running.connect("/ws?token=t") as ada:
        a, b = await ada.join("a"), await ada.join("b")
        refresh = {"type": "clientRefreshSession", "payload": {"token": "next"}, "ref": "1"}
        await a.send(refresh)  # It is a message of the connection, not of a room.
        assert (await a.receive_until("serverError"))[-1]["payload"]["code"] == "unknownMessage"
        await ada.send(refresh)
        assert (await ada.receive_until("serverSessionRefreshed"))[-1]["ref"] == "1"
        assert (await a.receive_until("serverLeft"))[-1]["payload"]["code"] == 4403
        with pytest.raises(JoinRefused) as refusal:
            await ada.join("a")
        assert refusal.value.close_code == 4403
        c = await ada.join("c")
        assert (await c.receive_until("said"))[-1]["payload"]["text"] == "member!a"
        await b.send("say", {"text": "on"})
        await b.receive_until("serverPosition")
        assert (await b.receive_until("said"))[-1]["payload"]["text"] == "on"


async def test_a_join_during_a_refresh_is_checked_with_the_new_session(
    running: Running, sign: Sign
) -> None:
    sign.users["next"] = User("ada", roles="slow")
    async with running.connect("/ws?token=t") as ada:
        joining = asyncio.create_task(ada.join("slow"))
        await ada.send("clientPing")
        await ada.receive_until("serverPong")
        await ada.send("clientRefreshSession", {"token": "next"})
        await ada.receive_until("serverSessionRefreshed")
        assert Club.joining is not None
        Club.joining.set()
        with pytest.raises(JoinRefused) as refusal:
            await joining
        assert refusal.value.close_code == 4403


async def test_a_revoked_session_and_its_end_close_the_connection(
    running: Running, sign: Sign
) -> None:
    async with running.connect("/ws?token=t") as ada:
        await ada.join("a")
        await ada.send("clientRefreshSession", {"token": "unknown"})
        assert (await ada.wait_closed())[0] == 4401


async def test_a_connection_without_a_user_has_the_first_that_a_room_sets(
    running: Running,
) -> None:
    async with running.connect("/ws") as ada:
        await ada.join("as-ada")
        with pytest.raises(JoinRefused) as refusal:
            await ada.join("as-bob")
        assert refusal.value.close_code == 4403
        await ada.join("other")


async def test_a_request_is_handled_once_over_two_connections(running: Running) -> None:
    say = {"type": "say", "payload": {"text": "hello"}, "ref": "7"}
    for _ in range(2):
        async with running.connect(f"/ws?token=t&client={CLIENT}") as ada:
            a = await ada.join("a")
            await a.send(say)
            reply = (await a.receive_until("serverAck"))[-1]
            assert (reply["ref"], reply["room"]) == ("7", "a")
    assert Club.handled == 1


@pytest.fixture(scope="module")
def redis_server() -> Any:
    with running_redis() as server:
        yield server


async def test_two_nodes_share_the_rooms(sign: Sign, redis_server: RedisServer) -> None:
    sign.users["b"] = User("bob", session_id="s2")
    apps = [make_app(sign, redis_server.url) for _ in range(2)]
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(run(app, ws=PushProtocol)) for app in apps]
        ada = await stack.enter_async_context(one.connect("/ws?token=t"))
        bob = await stack.enter_async_context(two.connect("/ws?token=b"))
        plain = await stack.enter_async_context(two.connect("/club/a?token=b"))
        a, b = await ada.join("a"), await ada.join("b")
        other = await bob.join("a")
        start = await a.receive_until("serverPosition")
        await b.receive_until("serverPosition")
        await plain.receive_until("serverPosition")
        await other.receive_until("serverPosition")
        for number in range(20):
            await other.send("say", {"text": str(number)})
        for client in (a, plain):
            texts = [(await client.receive_until("said"))[-1]["payload"]["text"] for _ in range(20)]
            assert texts == [str(number) for number in range(20)]
        manager = apps[1].ws_connection_manager
        await manager.send_to_user("ada", Said(text="direct"))
        assert (await ada.receive_until("said"))[-1]["payload"]["text"] == "direct"
        since, connection = start[-1]["id"], start[-1]["payload"]["connection"]
        ada.vanish()
        again = await stack.enter_async_context(two.connect("/ws?token=t"))
        a = await again.join("a", since=[since], previous=[connection])
        messages = await a.receive_until("serverPosition")
        assert len([each for each in messages if "id" in each and each["type"] == "said"]) == 20
        assert messages[-1]["payload"]["recovered"] is True
        await manager.ban("ada", room="club:a", seconds=60)
        assert (await a.receive_until("serverLeft"))[-1]["payload"]["code"] == 4403
        await manager.disconnect_user("ada", 4001, "end")
        assert await again.wait_closed() == (4001, "end")

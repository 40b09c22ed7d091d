"""Handlers with ``once``: requests that are sent again over the next connection, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import falcon.asgi
import pytest

from falcon_pachinko import (
    BackendUnavailable,
    InvalidPayload,
    Limits,
    Message,
    MessageError,
    Payload,
    RegistrationError,
    RequestKey,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.rooms.once import INTERRUPTED, Once
from falcon_pachinko.testing import Client, connect

from ..support.backends import TIMING, wait_for_result, wait_until
from ..support.redis_servers import running_redis
from ..support.servers import SERVERS, Endpoint

CLIENT = "0123456789abcdef" * 2


class ServerSold(Message, frozen=True):
    number: int


class Order(Payload, frozen=True):
    what: str = ""


class Shop(WebSocketResource):
    """Counts the executions of its handlers; the text of an order selects what happens."""

    limits = Limits(handler_seconds=2 * TIMING.answer_seconds, close_seconds=0.5)
    runs: ClassVar[list[tuple[str, RequestKey | None]]]
    gate: ClassVar[asyncio.Event]
    allowed: ClassVar[bool]

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        self.connection.user = req.get_param("user")
        await self.join_room("shop")
        return True

    async def authorize(self, user: Any, action: str, room: str | None) -> bool:
        return action == "join" or self.allowed

    @handles_message("order", once=True, action="order", per_second=0.001, burst=3)
    async def order(self, ws: WebSocketLike, payload: Order) -> ServerSold | None:
        return await self.sell(payload)

    @handles_message("orderAgain", once=True, repeatable=True)
    async def order_again(self, ws: WebSocketLike, payload: Order) -> ServerSold | None:
        return await self.sell(payload)

    async def sell(self, payload: Order) -> ServerSold | None:
        self.runs.append((payload.what, self.request_key))
        if payload.what.startswith("published"):
            await self.broadcast_to_room("shop", {"type": "sold"})
        if payload.what == "refuse":
            raise MessageError("There is none.", code="soldOut")
        if payload.what == "later":
            raise MessageError("Not now.", code="unavailable")
        if payload.what == "outage":
            raise BackendUnavailable("away")
        if payload.what == "invalid":
            raise InvalidPayload("order", "what", "Expected another one")
        if payload.what.endswith("hang"):
            await self.gate.wait()
        if payload.what == "fail":
            raise ZeroDivisionError
        return None if payload.what == "nothing" else ServerSold(number=len(self.runs))

    @handles_message("plain")
    async def plain(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.runs.append(("plain", self.request_key))


@pytest.fixture
async def server() -> AsyncIterator[Endpoint]:
    Shop.runs, Shop.gate, Shop.allowed = [], asyncio.Event(), True
    app = install(falcon.asgi.App())
    app.add_websocket_route("/shop", Shop)
    async with SERVERS["push"](app) as server:
        yield server


def visit(
    server: Endpoint, client: str = CLIENT, user: str = "alice"
) -> AbstractAsyncContextManager[Client]:
    return connect(server.ws_url(f"/shop?client={client}&user={user}"))


async def ask(client: Client, what: str, kind: str = "order", ref: str | None = "1") -> Any:
    """Send a request, and return its reply without messages of the room."""
    message = {"type": kind, "payload": {"what": what}}
    await client.send(message if ref is None else message | {"ref": ref})
    while (answer := await client.receive())["type"] == "sold":
        pass
    return answer


def error(code: str, text: str) -> dict[str, Any]:
    return {"type": "serverError", "payload": {"code": code, "error": text}, "ref": "1"}


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("book", {"type": "serverSold", "payload": {"number": 1}, "ref": "1"}),
        ("nothing", {"type": "serverAck", "payload": {}, "ref": "1"}),
        ("published", {"type": "serverSold", "payload": {"number": 1}, "ref": "1"}),
        ("refuse", error("soldOut", "There is none.")),
    ],
)
async def test_a_request_that_is_sent_again_has_its_first_reply(
    server: Endpoint, what: str, expected: Any
) -> None:
    for _ in range(3):
        async with visit(server) as client:
            assert await ask(client, what) == expected
            assert await ask(client, what) == expected
    assert Shop.runs == [(what, RequestKey("alice", CLIENT, "1"))]


async def test_the_reply_to_a_request_that_was_cut_waits_for_its_handler(
    server: Endpoint,
) -> None:
    async with visit(server) as client:
        await client.send({"type": "order", "payload": {"what": "hang"}, "ref": "1"})
        await wait_until(lambda: len(Shop.runs) == 1)
        client.vanish()
    async with visit(server) as client:
        asking = asyncio.create_task(ask(client, "hang"))
        await asyncio.sleep(0.05)
        Shop.gate.set()
        assert await asking == {"type": "serverSold", "payload": {"number": 1}, "ref": "1"}
    assert len(Shop.runs) == 1


@pytest.mark.parametrize(
    ("kind", "what", "runs", "expected"),
    [
        ("order", "hang", 1, error("interrupted", INTERRUPTED)),
        ("order", "published hang", 1, {"type": "serverAck", "payload": {}, "ref": "1"}),
        ("orderAgain", "hang", 2, {"type": "serverSold", "payload": {"number": 2}, "ref": "1"}),
        ("orderAgain", "published hang", 1, {"type": "serverAck", "payload": {}, "ref": "1"}),
    ],
)
async def test_a_handler_that_was_interrupted(
    server: Endpoint, kind: str, what: str, runs: int, expected: Any
) -> None:
    async with visit(server) as client:
        assert (await ask(client, what, kind))["payload"]["code"] == "timeout"
        Shop.gate.set()
        assert await ask(client, what, kind) == expected
    assert len(Shop.runs) == runs


@pytest.mark.parametrize("kind", ["order", "orderAgain"])
async def test_a_handler_that_fails_is_interrupted(server: Endpoint, kind: str) -> None:
    async with visit(server) as client:
        await client.send({"type": kind, "payload": {"what": "fail"}, "ref": "1"})
        assert (await client.wait_closed())[0] == 1011
    async with visit(server) as client:
        if kind == "order":
            assert await ask(client, "fail") == error("interrupted", INTERRUPTED)
        else:
            assert (await ask(client, "book", kind))["payload"] == {"number": 2}


@pytest.mark.parametrize(
    ("what", "code"),
    [("later", "unavailable"), ("outage", "unavailable"), ("invalid", "invalidPayload")],
)
async def test_an_error_that_asks_to_try_again_is_not_kept(
    server: Endpoint, what: str, code: str
) -> None:
    async with visit(server) as client:
        assert (await ask(client, what))["payload"]["code"] == code
        assert (await ask(client, "book"))["payload"] == {"number": 2}
    assert [key for _, key in Shop.runs] == [RequestKey("alice", CLIENT, "1")] * 2


async def test_a_reply_that_is_kept_needs_no_rate_and_no_permission(server: Endpoint) -> None:
    async with visit(server) as client:
        for ref in ("1", "2", "3"):
            await ask(client, "book", ref=ref)
        assert (await ask(client, "book", ref="4"))["payload"]["code"] == "tooManyMessages"
        Shop.allowed = False
        assert (await ask(client, "book"))["payload"] == {"number": 1}
        assert len(Shop.runs) == 3


async def test_a_refusal_is_kept_as_the_reply(server: Endpoint) -> None:
    Shop.allowed = False
    async with visit(server) as client:
        refused = await ask(client, "book")
        assert refused["payload"]["code"] == "forbidden"
        Shop.allowed = True
        assert await ask(client, "book") == refused
        assert (await ask(client, "book", ref="2"))["payload"] == {"number": 1}


async def test_another_user_or_client_has_replies_of_its_own(server: Endpoint) -> None:
    visitors = [(CLIENT, "alice"), (CLIENT, "bob"), ("f" * 32, "alice")]
    for _ in range(2):
        for number, (client_id, user) in enumerate(visitors):
            async with visit(server, client_id, user) as client:
                answer = await ask(client, "book", "orderAgain")
                assert answer["payload"] == {"number": number + 1}


@pytest.mark.parametrize(
    "client_id", ["", "f" * 31, "f" * 33, "F" * 32, "g" * 32, "web", "%FF" * 32]
)
async def test_without_a_valid_client_id_each_request_is_handled(
    server: Endpoint, client_id: str
) -> None:
    async with visit(server, client_id) as client:
        for number in (1, 2):
            answer = await ask(client, "book", "orderAgain")
            assert answer["payload"] == {"number": number}
    assert Shop.runs == [("book", None)] * 2


async def test_without_a_ref_each_message_is_handled(server: Endpoint) -> None:
    async with visit(server) as client:
        for number in (1, 2):
            assert await ask(client, "book", ref=None) == {
                "type": "serverSold",
                "payload": {"number": number},
            }
        await ask(client, "", "plain")
        assert (await ask(client, "book", ref=""))["payload"]["field"] == "ref"
        await client.send({"type": "order", "payload": {"what": 7}, "ref": "9"})
        assert (await client.receive())["payload"]["field"] == "what"
    assert [key for _, key in Shop.runs] == [None] * 3


@pytest.mark.redis
async def test_a_request_whose_connection_was_cut_is_answered_by_another_node() -> None:
    Shop.runs, Shop.gate, Shop.allowed = [], asyncio.Event(), True
    with running_redis() as redis:
        async with node(redis.url) as one, node(redis.url) as two:
            async with visit(one) as client:
                await client.send({"type": "order", "payload": {"what": "hang"}, "ref": "1"})
                await wait_until(lambda: len(Shop.runs) == 1)
                client.vanish()
            async with visit(two) as client:
                asking = asyncio.create_task(ask(client, "hang"))
                await asyncio.sleep(0.05)
                Shop.gate.set()
                sold = {"type": "serverSold", "payload": {"number": 1}, "ref": "1"}
                assert await asking == sold
                assert await ask(client, "hang") == sold
    assert len(Shop.runs) == 1


@pytest.mark.redis
async def test_without_redis_nothing_runs_and_the_answer_is_unavailable() -> None:
    Shop.runs, Shop.gate, Shop.allowed = [], asyncio.Event(), True
    with running_redis() as redis:
        async with node(redis.url) as server, visit(server) as client:
            redis.pause()
            try:
                refused = await ask(client, "book")
            finally:
                redis.resume()
            assert (refused["payload"]["code"], refused["ref"]) == ("unavailable", "1")
            assert Shop.runs == []

            async def book() -> Any:
                return (await ask(client, "book"))["payload"]

            await wait_for_result(book, {"number": 1})
            assert await book() == {"number": 1}
    assert len(Shop.runs) == 1


def node(url: str) -> AbstractAsyncContextManager[Endpoint]:
    """A node over Redis."""
    app = install(falcon.asgi.App(), backend=backend_from_url(url, timing=TIMING))
    app.add_websocket_route("/shop", Shop)
    return SERVERS["push"](app)


def test_a_declaration_that_cannot_be_meant_is_refused() -> None:
    assert Once.of(True, True) == Once(repeatable=True)
    assert Once.of(False, False) is None
    with pytest.raises(RegistrationError, match=r"repeatable=True.*needs once=True"):
        handles_message("say", repeatable=True)
    with pytest.raises(RegistrationError, match=r"once='yes'.*True or False"):
        handles_message("say", once="yes")  # type: ignore[arg-type]

"""Requests of handlers to their own client: replies, bounds, and what happens without a reply."""

import asyncio
import gc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import falcon.asgi
import msgspec
import pytest
from falcon import WebSocketDisconnected

from falcon_pachinko import (
    Limits,
    Message,
    MessageError,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.connection.requests import ClientRequests
from falcon_pachinko.errors import RequestError
from falcon_pachinko.messages import ClientReply, ReplyPayload
from falcon_pachinko.testing import Client, connect

from ..support.servers import SERVERS

TIMED_OUT = {"code": "timeout", "error": "Your device did not respond in time."}


class ServerNamed(Message, frozen=True):
    name: str


class Name(msgspec.Struct):
    name: str


class Host(WebSocketResource):
    limits = Limits(handler_seconds=5.0, inbox_messages=4, max_message_bytes=2_000)
    outcomes: "asyncio.Queue[BaseException]"

    def __init__(self, outcomes: "asyncio.Queue[BaseException]") -> None:
        self.outcomes = outcomes

    @handles_message("askName")
    async def ask_name(self, ws: WebSocketLike, payload: dict[str, Any]) -> ServerNamed:
        named = await self.request(
            "serverAskName", {"hint": "full"}, payload.get("seconds", 5.0), result_type=Name
        )
        return ServerNamed(name=named.name)

    @handles_message("askTwo")
    async def ask_two(self, ws: WebSocketLike, payload: dict[str, Any]) -> ServerNamed:
        names = await asyncio.gather(*(self.request("serverAskName", {}) for _ in range(2)))
        return ServerNamed(name=" and ".join(names))

    @handles_message("askAndLose")
    async def ask_and_lose(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        try:
            await self.request("serverAskName", {})
        except BaseException as error:
            self.outcomes.put_nowait(error)
            raise

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> ServerNamed:
        return ServerNamed(name=payload["name"])


@pytest.fixture
def outcomes() -> "asyncio.Queue[BaseException]":
    return asyncio.Queue()


@pytest.fixture(params=SERVERS)
async def client(
    request: pytest.FixtureRequest, outcomes: "asyncio.Queue[BaseException]"
) -> AsyncIterator[Client]:
    """A client of the host, on each server in turn."""
    app = install(falcon.asgi.App())
    app.add_websocket_route("/host", Host, outcomes)
    async with SERVERS[request.param](app) as server, connect(server.ws_url("/host")) as client:
        yield client


async def reply(client: Client, ref: str, **payload: Any) -> None:
    await client.send({"type": "clientReply", "ref": ref, "payload": payload})


async def asked(client: Client, kind: str, **payload: Any) -> str:
    """Let a handler ask, and return the reference of its request."""
    await client.send(kind, payload)
    return await next_request(client)


async def next_request(client: Client) -> str:
    request = await client.receive()
    assert request["type"] == "serverAskName"
    ref: str = request["ref"]
    return ref


async def test_a_handler_gets_the_result_before_the_messages_that_wait_for_it(
    client: Client,
) -> None:
    ref = await asked(client, "askName")
    await client.send("say", {"name": "later"})
    await reply(client, ref, result={"name": "Ada"})
    assert (await client.receive())["payload"] == {"name": "Ada"}
    assert (await client.receive())["payload"] == {"name": "later"}


async def test_each_request_has_its_own_reply(client: Client) -> None:
    first = await asked(client, "askTwo")
    second = await next_request(client)
    await reply(client, second, result="Bob")
    await reply(client, first, result="Ada")
    assert (await client.receive())["payload"] == {"name": "Ada and Bob"}


@pytest.mark.parametrize(
    ("payload", "code", "text"),
    [
        ({"code": "declined", "error": "Not now."}, "declined", "Not now."),
        ({"result": {"name": 7}}, "invalidReply", "Expected `str`, got `int`"),
        ({}, "invalidReply", "Expected `object`, got `null`"),
    ],
)
async def test_a_reply_without_a_valid_result_is_an_error(
    client: Client, payload: dict[str, Any], code: str, text: str
) -> None:
    await reply(client, await asked(client, "askName"), **payload)
    error = (await client.receive())["payload"]
    assert error["code"] == code
    assert text in error["error"]


async def test_without_a_reply_the_request_ends_at_its_time_and_a_late_one_is_ignored(
    client: Client,
) -> None:
    ref = await asked(client, "askName", seconds=0.05)
    assert (await client.receive())["payload"]["code"] == "timeout"
    await reply(client, ref, result={"name": "late"})
    await client.send("say", {"name": "next"})
    assert (await client.receive())["payload"] == {"name": "next"}


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"clientReply","ref":"server:2","payload":{"result":"another request"}}',
        '{"type":"clientReply","payload":{}}',
        '{"type":"clientReply","ref":1,"payload":{}}',
        '{"type":"clientReply","ref":"server:1","payload":{"code":"%s"}}' % ("c" * 65),
        '{"type":"say","payload":{"name":"clientReply"},"ref":"server:1"}',
        "clientReply",
        "[" * 900 + "clientReply",
        b"clientReply",
    ],
)
async def test_other_messages_are_no_replies_and_wait_for_their_turn(
    client: Client, data: str | bytes
) -> None:
    ref = await asked(client, "askName")
    await client.send_raw(data)
    await reply(client, ref, result={"name": "Ada"})
    assert (await client.receive())["payload"] == {"name": "Ada"}
    await client.send("say", {"name": "next"})
    later = await client.receive_until("serverNamed")
    while later[-1]["payload"] != {"name": "next"}:
        later += await client.receive_until("serverNamed")


async def test_a_message_above_the_limit_is_no_reply(client: Client) -> None:
    ref = await asked(client, "askName", seconds=0.05)
    await reply(client, ref, result={"name": "n" * 2_000})
    code, reason = await client.wait_closed()
    assert (code, reason) == (1009, "at most 2000 bytes")


async def test_a_request_ends_with_its_connection(
    client: Client, outcomes: "asyncio.Queue[BaseException]"
) -> None:
    await asked(client, "askAndLose")
    client.vanish()
    async with asyncio.timeout(5):
        assert isinstance(await outcomes.get(), WebSocketDisconnected)


async def test_a_client_that_has_filled_its_inbox_is_not_waited_for_longer_than_the_time(
    client: Client,
) -> None:
    ref = await asked(client, "askName", seconds=0.2)
    for number in range(8):
        await client.send("say", {"name": str(number)})
    await reply(client, ref, result={"name": "behind"})
    # A server that parses the frames of one segment at once has read the reply as well.
    assert (await client.receive())["payload"] in (TIMED_OUT, {"name": "behind"})
    for number in range(8):
        assert (await client.receive())["payload"] == {"name": str(number)}


class Lost:
    """A connection that ends while a request is sent."""

    def __init__(self, requests: ClientRequests) -> None:
        self.requests = requests

    async def send_text(self, text: str) -> None:
        self.requests.fail(1006)
        raise WebSocketDisconnected(1006)


async def test_the_end_of_a_request_that_nothing_waits_for_is_not_logged() -> None:
    inbox: Any = SimpleNamespace(expect_reply=lambda take: None)
    requests, reported = ClientRequests(inbox), list[dict[str, Any]]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(context))
    lost: Any = Lost(requests)
    with pytest.raises(WebSocketDisconnected):
        await requests.ask(lost, "serverAskName", {}, 5.0)
    gc.collect()
    assert (reported, requests.waiting) == ([], {})


class Early(WebSocketResource):
    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        with pytest.raises(RuntimeError, match="before on_connect has accepted"):
            await self.request("serverAskName", {})
        return True

    @handles_message("askForever")
    async def ask_forever(self, ws: WebSocketLike, payload: dict[str, Any]) -> ServerNamed:
        for seconds in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(ValueError, match="give a number above zero"):
                await self.request("serverAskName", {}, seconds)
        with pytest.raises(TypeError):
            await self.request("serverAskName", object())
        return ServerNamed(name="refused")


async def test_a_request_that_cannot_work_is_refused() -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/early", Early)
    async with SERVERS["uvicorn"](app) as server, connect(server.ws_url("/early")) as client:
        await client.send("askForever")
        assert (await client.receive())["payload"] == {"name": "refused"}


def test_a_reply_has_the_reference_of_its_request_and_is_no_request_itself() -> None:
    data = b'{"type":"clientReply","ref":"server:1","payload":{"result":[1]}}'
    found = msgspec.json.decode(data, type=ClientReply)
    assert (found.request, found.payload, found.ref) == (
        "server:1",
        ReplyPayload(result=[1]),
        msgspec.UNSET,
    )
    assert issubclass(RequestError, MessageError)

"""The client against real servers: losses, restarts, recovery, refusals, rooms, requests."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.http11 import Request, Response

import falcon_pachinko
from falcon_pachinko.client import (
    Client,
    ClientClosed,
    ClientError,
    Envelope,
    Options,
    RequestFailed,
    State,
    Status,
    connect,
)
from falcon_pachinko.errors import ConfigurationError, InvalidPayload
from falcon_pachinko.messages import ServerAck, ServerError, ServerPosition
from falcon_pachinko.testing import serve
from falcon_pachinko.testing.fixtures import ServeApp

from .chat import ChatResource, Say, ServerAskName, ServerEcho, ServerSaid, make_app
from .relay import Relay, relay_to

WAIT_SECONDS = 10.0
QUICK = Options(base_delay_seconds=0.02, max_delay_seconds=0.1)
NEVER_AGAIN = Options(base_delay_seconds=3_600, max_delay_seconds=3_600)

RECEIVES = (ServerSaid, ServerEcho, ServerAskName)


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    """Each test leaves no task behind."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before
    assert not {task for task in left if "client" in repr(task.get_coro())}


@pytest.fixture
async def relay(serve_app: ServeApp) -> AsyncIterator[Relay]:
    """A relay to the service."""
    service = await serve_app(make_app())
    async with relay_to(service.port) as relay:
        yield relay


def url(relay: Relay, room: str = "general") -> str:
    return f"ws://127.0.0.1:{relay.port}/rooms/{room}"


async def take(stream: Any, count: int) -> list[Any]:
    """Return the next messages of a client or a room."""
    async with asyncio.timeout(WAIT_SECONDS):
        return [await anext(stream) for _ in range(count)]


async def reach(client: Any, state: State) -> None:
    """Wait until a client is in a state."""
    reached = asyncio.Event()

    def check(status: Status) -> None:
        if status.state is state:
            reached.set()

    client.on_status(check)
    if client.status.state is not state:
        async with asyncio.timeout(WAIT_SECONDS):
            await reached.wait()


def closed(error: pytest.ExceptionInfo[ClientClosed]) -> tuple[int, str]:
    return error.value.code, error.value.reason


async def test_messages_are_objects_of_the_service_and_requests_return_replies(
    relay: Relay,
) -> None:
    async with connect(url(relay), receives=RECEIVES, options=QUICK) as client:
        await client.send("clientSay", Say(text="Grüße 🎉"))
        assert await take(client, 1) == [ServerSaid(text="Grüße 🎉")]
        assert await client.request("clientSay", {"text": "a"}) == ServerAck()
        echo = await client.request("clientEcho", Say(text="b"), reply=ServerEcho)
        assert echo.text == "b"
        with pytest.raises(ClientError, match="the reply is serverEcho, not a valid ServerAck"):
            await client.request("clientEcho", Say(text="b"), reply=ServerAck)
        with pytest.raises(RequestFailed) as failed:
            await client.request("clientEcho", {"text": 1})
        assert (failed.value.code, failed.value.field) == ("invalidPayload", "text")
        await client.send("clientUnknown")
        said, error = await take(client, 2)
        assert isinstance(said, ServerSaid)
        assert isinstance(error, ServerError)
        assert error.code == "unknownMessage"
        await client.send("clientSay", Say(text="c"))
        async with asyncio.timeout(WAIT_SECONDS):
            envelope = await client.receive()
        assert envelope.message == ServerSaid(text="c")
        assert str(envelope.position).endswith(":3")
        assert isinstance(envelope.published_ms, int)
    assert client.status.state is State.CLOSED
    assert [message async for message in client] == []
    with pytest.raises(ClientClosed, match="close code 1000"):
        await client.send("clientSay", Say(text="d"))


async def test_without_classes_messages_are_envelopes(relay: Relay) -> None:
    async with connect(url(relay).replace("ws:", "http:"), options=QUICK) as client:
        await client.send("clientSay", {"text": "a"})
        [envelope] = await take(client, 1)
        assert isinstance(envelope, Envelope)
        assert (envelope.type, envelope.payload) == ("serverSaid", {"text": "a"})


async def test_the_class_of_a_resource_declares_all_messages(relay: Relay) -> None:
    async with connect(url(relay), resource=ChatResource, options=QUICK) as client:
        await client.send("clientSay", Say(text="a"))
        assert await take(client, 1) == [ServerSaid(text="a")]
        with pytest.raises(InvalidPayload) as wrong:
            await client.send("clientSay", {"text": 1})
        assert (wrong.value.field, wrong.value.reason) == ("text", "Expected `str`, got `int`")
        with pytest.raises(InvalidPayload, match="no handler"):
            await client.request("clientSing")


async def test_a_dropped_connection_is_replaced_and_nothing_is_lost_or_repeated(
    relay: Relay,
) -> None:
    async with (
        connect(url(relay), receives=RECEIVES, options=QUICK) as client,
        connect(f"ws://127.0.0.1:{relay.target}/rooms/general") as other,
    ):
        await client.request("clientSay", Say(text="1"))
        assert await take(client, 1) == [ServerSaid(text="1")]
        target, relay.target = relay.target, None
        relay.drop()
        await reach(client, State.WAITING)
        for text in "234":
            await other.request("clientSay", Say(text=text))
        await client.send("clientSay", Say(text="queued"))
        assert client.queued_messages == 1
        relay.target = target
        *missed, position, queued = await take(client, 5)
        assert missed == [ServerSaid(text=text) for text in "234"]
        assert isinstance(position, ServerPosition)
        assert position.recovered is True
        assert queued == ServerSaid(text="queued")


async def test_a_gap_that_the_history_cannot_fill_is_reported(relay: Relay) -> None:
    async with (
        connect(url(relay), receives=RECEIVES, options=QUICK) as client,
        connect(f"ws://127.0.0.1:{relay.target}/rooms/general") as other,
    ):
        await client.request("clientSay", Say(text="1"))
        target, relay.target = relay.target, None
        relay.drop()
        await reach(client, State.WAITING)
        for number in range(5):
            await other.request("clientSay", Say(text=str(number)))
        relay.target = target
        first, position = await take(client, 2)
        assert first == ServerSaid(text="1")
        assert isinstance(position, ServerPosition)
        assert position.recovered is False
        await other.send("clientSay", Say(text="live"))
        assert await take(client, 1) == [ServerSaid(text="live")]


async def test_a_client_survives_the_restart_of_its_server() -> None:
    async with relay_to(None) as relay:
        async with serve(make_app()) as first:
            relay.target = first.port
            client = connect(url(relay), receives=RECEIVES, options=QUICK)
            await client.__aenter__()
            await client.request("clientSay", Say(text="before"))
            codes: list[int | None] = []
            client.on_status(lambda status: codes.append(status.code))
        try:
            assert 1012 in codes
            async with serve(make_app()) as second:
                relay.target = second.port
                reply = await client.request("clientSayOnce", Say(text="after"), once=True)
                assert reply == ServerAck()
                before, position, after = await take(client, 3)
                assert (before, after) == (ServerSaid(text="before"), ServerSaid(text="after"))
                assert position.recovered is False
        finally:
            await client.close()


async def test_a_server_that_is_not_there_yet_is_awaited() -> None:
    async with (
        relay_to(None) as relay,
        connect(url(relay), receives=RECEIVES, options=QUICK) as client,
    ):
        await client.send("clientSay", Say(text="early"))
        await reach(client, State.WAITING)
        async with serve(make_app()) as service:
            relay.target = service.port
            async with asyncio.timeout(WAIT_SECONDS):
                await client.wait_open()
            assert await take(client, 1) == [ServerSaid(text="early")]
            await client.close()


async def test_a_silent_connection_is_detected(relay: Relay) -> None:
    options = Options(base_delay_seconds=0.02, heartbeat_timeout_seconds=0.7)
    async with connect(url(relay), receives=RECEIVES, options=options) as client:
        await client.request("clientSay", Say(text="1"))
        relay.flowing.clear()
        await reach(client, State.WAITING)
        assert client.status.code == 1006
        relay.drop()
        relay.flowing.set()
        reply = await client.request("clientEcho", Say(text="2"), reply=ServerEcho)
        assert reply.text == "2"


@pytest.mark.parametrize(("room", "code"), [("forbidden", 3403), ("4401", 4401), ("4499", 4499)])
async def test_a_refusal_that_a_retry_cannot_change_closes_the_client(
    relay: Relay, room: str, code: int
) -> None:
    async with connect(url(relay, room), options=QUICK) as client:
        await client.send("clientSay", Say(text="never"))
        with pytest.raises(ClientClosed) as refused:
            await take(client, 1)
        assert refused.value.code == code
        assert client.queued_messages == 0
        with pytest.raises(ClientClosed):
            await client.wait_open()
        with pytest.raises(ClientClosed):
            await client.request("clientEcho", Say(text="never"))
        assert relay.accepted == 1


@pytest.mark.parametrize("room", ["4429", "4008", "4029", "1011", "1013"])
async def test_other_codes_are_retried(relay: Relay, room: str) -> None:
    async with connect(url(relay, room), options=QUICK) as client:
        for attempts in (1, 2):
            await reach(client, State.WAITING)
            assert client.status.code == int(room)
            assert relay.accepted >= attempts
            await reach(client, State.CONNECTING)


@pytest.mark.parametrize(("status", "is_final"), [(401, True), (404, True), (503, False)])
async def test_the_status_of_a_refused_handshake_decides(status: int, is_final: bool) -> None:
    attempts: list[str | None] = []

    def refuse(connection: ServerConnection, request: Request) -> Response:
        attempts.append(request.headers.get("Authorization"))
        return connection.respond(HTTPStatus(status), "no")

    async def handle(connection: ServerConnection) -> None:
        raise AssertionError("it has been refused")

    async with serve_websockets(handle, "127.0.0.1", 0, process_request=refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", token="abc", options=QUICK) as client:
            if is_final:
                with pytest.raises(ClientClosed, match=f"HTTP {status}") as refused:
                    await take(client, 1)
                assert refused.value.code == 3000 + status
                assert attempts == ["Bearer abc"]
            else:
                await reach(client, State.WAITING)
                assert client.status.code == 3503


async def test_the_delay_is_that_of_a_server_that_stops() -> None:
    times: list[float] = []

    async def handle(connection: ServerConnection) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            await connection.close(1012, "retry=0.4")
        await connection.wait_closed()

    async with serve_websockets(handle, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", options=NEVER_AGAIN) as client:
            await reach(client, State.WAITING)
            await reach(client, State.OPEN)
    assert len(times) == 2
    assert times[1] - times[0] >= 0.39


async def test_a_request_with_once_is_handled_once_across_a_lost_connection(relay: Relay) -> None:
    ChatResource.handled = 0
    async with (
        connect(url(relay), receives=RECEIVES, options=QUICK) as client,
        connect(f"ws://127.0.0.1:{relay.target}/rooms/general", receives=RECEIVES) as other,
    ):
        await client.wait_open()
        await other.wait_open()
        # Nothing reaches the client any more, but its request reaches the server.
        asking = asyncio.create_task(client.request("clientSayOnce", Say(text="1"), once=True))
        assert await take(other, 1) == [ServerSaid(text="1")]
        relay.drop()
        async with asyncio.timeout(WAIT_SECONDS):
            assert await asking == ServerAck()
        assert ChatResource.handled == 1


async def test_rooms_share_a_connection_and_are_joined_again(relay: Relay) -> None:
    address = f"ws://127.0.0.1:{relay.port}/rooms"
    async with connect(address, receives=RECEIVES, options=QUICK) as client:
        a, b, bad = client.join("a"), client.join("b"), client.join("4403")
        assert client.join("a") is a
        await a.send("clientSay", Say(text="in a"))
        assert await take(a, 1) == [ServerSaid(text="in a")]
        assert (await b.request("clientEcho", Say(text="x"), reply=ServerEcho)).text == "x"
        with pytest.raises(ClientClosed) as refused:
            await take(bad, 1)
        assert closed(refused) == (4403, "go away")
        relay.drop()
        await reach(client, State.WAITING)
        await a.send("clientSay", Say(text="again"))
        position, said = await take(a, 2)
        assert (position.recovered, said) == (True, ServerSaid(text="again"))
        a.leave()
        assert list(client._rooms) == ["b"]
        assert [message async for message in a] == []
        assert client.status.state is State.OPEN
        assert client.join("a") is not a


async def test_the_server_asks_and_the_client_answers(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    async def name(asked: ServerAskName) -> str:
        await asyncio.sleep(0)
        return f"{asked.hint}!"

    def fail(asked: ServerAskName) -> str:
        raise ValueError("no name")

    async with connect(url(relay), receives=RECEIVES, options=QUICK) as client:
        client.answer("serverAskName", name)
        reply = await client.request("clientAsk", {"hint": "Ada"}, reply=ServerEcho)
        assert reply.text == "Ada!"
        answers: list[tuple[Callable[[Any], Any] | None, str]] = [
            (fail, "failed"),
            (None, "unsupported"),
        ]
        for function, code in answers:
            client.answer("serverAskName", function)
            with caplog.at_level(logging.CRITICAL), pytest.raises(RequestFailed) as failed:
                await client.request("clientAsk", {"hint": "Ada"})
            assert failed.value.code == code


async def test_received_messages_have_a_bound_at_which_requests_fail(relay: Relay) -> None:
    options = Options(base_delay_seconds=0.02, max_received_messages=10)
    async with connect(url(relay), receives=RECEIVES, options=options) as client:
        with pytest.raises(RequestFailed) as failed:
            await client.request("clientFlood", {"count": 50})
        assert failed.value.code == "receiveQueueFull"
        with pytest.raises(RequestFailed, match="take the messages"):
            await client.request("clientEcho", Say(text="never"))
        assert [each.text for each in await take(client, 50)] == [str(n) for n in range(50)]
        reply = await client.request("clientEcho", Say(text="again"), reply=ServerEcho)
        assert reply.text == "again"


async def test_a_full_queue_of_messages_to_send_is_waited_for_within_a_bound() -> None:
    options = Options(max_queued_messages=1, base_delay_seconds=0.02, max_delay_seconds=0.05)
    async with relay_to(None) as relay, connect(url(relay), options=options) as client:
        await client.send("clientSay", Say(text="1"))
        with pytest.raises(TimeoutError):
            await client.send("clientSay", Say(text="2"), timeout_seconds=0.05)
        waiting = asyncio.create_task(client.send("clientSay", Say(text="3")))
        async with serve(make_app()) as service:
            relay.target = service.port
            async with asyncio.timeout(WAIT_SECONDS):
                await waiting
            await client.close()


async def test_a_token_is_fetched_for_each_attempt_and_none_ends_the_client(relay: Relay) -> None:
    tokens: list[Any] = ["first", OSError("no network"), "second", None]

    async def token() -> str | None:
        found = tokens.pop(0)
        if isinstance(found, OSError):
            raise found
        return str(found) if found is not None else None

    async with connect(url(relay), token=token, options=QUICK) as client:
        await client.wait_open()
        client.reconnect()
        await reach(client, State.WAITING)
        await reach(client, State.OPEN)
        client.reconnect()
        with pytest.raises(ClientClosed) as ended:
            await take(client, 10)
        assert (ended.value.code, tokens) == (4401, [])


async def test_a_cancelled_request_leaves_the_queue() -> None:
    async with relay_to(None) as relay, connect(url(relay), options=QUICK) as client:
        request = asyncio.create_task(client.request("clientEcho", Say(text="never")))
        await asyncio.sleep(0)
        assert client.queued_messages == 1
        request.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await request
        assert client.queued_messages == 0


@pytest.mark.parametrize("wrong", ["chat", "ftp://a.test/", "ws:///x", "ws://a.test/#x"])
async def test_an_address_that_is_none_is_refused_at_once(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="not a WebSocket URL"):
        connect(wrong)


async def test_a_message_that_does_not_match_its_class_is_logged_and_an_envelope(
    caplog: pytest.LogCaptureFixture, relay: Relay
) -> None:
    class ServerSaidMore(ServerSaid, frozen=True, tag="serverSaid"):
        more: str

    async with connect(url(relay), receives=[ServerSaidMore], options=QUICK) as client:
        await client.send("clientSay", Say(text="a"))
        [envelope] = await take(client, 1)
    assert isinstance(envelope, Envelope)
    assert "serverSaid does not match ServerSaidMore" in caplog.text


def test_a_client_needs_an_event_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        connect("ws://127.0.0.1:1/")


async def test_close_sends_what_the_connection_has_accepted(relay: Relay) -> None:
    async with (
        connect(f"ws://127.0.0.1:{relay.target}/rooms/general", receives=RECEIVES) as other,
        connect(url(relay), options=QUICK) as client,
    ):
        await other.wait_open()
        await client.wait_open()
        await client.send("clientSay", Say(text="last"))
        with pytest.raises(ValueError, match="close code 1005"):
            await client.close(1005)
        await client.close(4000, "enough")
        assert await take(other, 1) == [ServerSaid(text="last")]
        assert isinstance(client, Client)
        assert (client.status.code, client.status.reason) == (4000, "enough")


@pytest.mark.parametrize(
    "hostile",
    [
        '{"type": "serverPosition", "payload": {"rooms": 5}}',
        '{"type": "serverPosition", "payload": {"rooms": {"a": 1}}}',
        '{"type": "serverLeft", "payload": {"code": "x"}, "room": "a"}',
        '{"type": "serverError", "payload": {"closeCode": []}, "ref": "1", "room": "a"}',
    ],
)
async def test_a_message_that_breaks_the_protocol_leaves_no_connection_that_nobody_reads(
    hostile: str, caplog: pytest.LogCaptureFixture
) -> None:
    connections = 0

    async def handle(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        join = json.loads(await connection.recv())
        if connections == 1:
            if "serverLeft" in hostile:
                joined = {"type": "serverJoined", "payload": {}, "ref": join["ref"], "room": "a"}
                await connection.send(json.dumps(joined))
            await connection.send(hostile)
        else:
            await connection.send('{"type": "serverSaid", "payload": {"text": "a"}}')
        await connection.wait_closed()

    async with serve_websockets(handle, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", receives=RECEIVES, options=QUICK) as client:
            client.join("a")
            with caplog.at_level(logging.CRITICAL):
                assert await take(client, 1) == [ServerSaid(text="a")]


async def test_a_client_is_used_once(relay: Relay) -> None:
    client = connect(url(relay), options=QUICK)
    async with client:
        await client.wait_open()
    with pytest.raises(RuntimeError, match="used once"):
        await client.__aenter__()


async def test_messages_that_a_lost_connection_has_not_written_are_sent_over_the_next_one() -> None:
    received: list[list[int]] = []
    is_complete = asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        numbers: list[int] = []
        received.append(numbers)
        if len(received) == 1:
            # It reads nothing until the client's buffers are full, then it is gone.
            connection.transport.pause_reading()
            await connection.wait_closed()
            return
        async for data in connection:
            numbers.append(json.loads(data)["payload"]["number"])
            if numbers[-1] == 299:
                is_complete.set()

    options = Options(base_delay_seconds=0.02, max_buffered_bytes=64 * 1024 * 1024)
    settings: Any = {"compression": None, "close_timeout": 0.1}
    async with serve_websockets(handle, "127.0.0.1", 0, **settings) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with relay_to(port) as relay, connect(url(relay), options=options) as client:
            await client.wait_open()
            for number in range(300):
                await client.send("clientNote", {"number": number, "text": "x" * 100_000})
            relay.drop()
            await reach(client, State.WAITING)
            await reach(client, State.OPEN)
            async with asyncio.timeout(WAIT_SECONDS):
                await is_complete.wait()
    first, *_ = received[1]
    assert received[1] == list(range(first, 300))


async def test_a_message_during_the_close_by_the_server_is_queued() -> None:
    received: list[Any] = []
    sent, arrived = asyncio.Event(), asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        if not sent.is_set():
            # The close frame, and the end of TCP only after the client's message.
            connection.protocol.send_close(1012, "retry=0.05")
            connection.send_data()
            await sent.wait()
            return
        received.append(json.loads(await connection.recv())["payload"])
        arrived.set()
        await connection.wait_closed()

    async with serve_websockets(handle, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", options=QUICK) as client:
            await client.wait_open()
            socket = client._machine.socket
            for _ in range(1_000):
                if socket is None or not socket.is_open:
                    break
                await asyncio.sleep(0.005)
            assert client.status.state is State.OPEN
            await client.send("clientNote", {"text": "a"})
            assert client.queued_messages == 1
            sent.set()
            async with asyncio.timeout(WAIT_SECONDS):
                await arrived.wait()
    assert received == [{"text": "a"}]


async def test_the_example_of_the_guide_shows_the_messages_of_all_rooms(
    relay: Relay, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = Path(falcon_pachinko.__file__).parents[2] / "docs/framework/client.md"
    [code] = [
        block.partition("```")[0]
        for block in guide.read_text("utf-8").split("```python\n")
        if "async def watch(" in block
    ]
    names: dict[str, Any] = {"SendMessage": Say}
    exec(code.replace("clientSendMessage", "clientSay"), names)
    address = f"ws://127.0.0.1:{relay.port}/rooms"
    async with (
        connect(f"ws://127.0.0.1:{relay.target}/rooms/general") as other,
        connect(address, receives=RECEIVES, options=QUICK) as client,
    ):
        watching = asyncio.create_task(names["watch"](client))
        await client.join("general").wait_open()
        await other.send("clientSay", Say(text="from elsewhere"))
        printed = ""
        for _ in range(1_000):
            printed += capsys.readouterr().out
            if printed.count("\n") == 2:
                break
            await asyncio.sleep(0.01)
        await client.close()
        await watching
    assert sorted(printed.splitlines()) == [
        "ServerSaid(text='Hello')",
        "ServerSaid(text='from elsewhere')",
    ]

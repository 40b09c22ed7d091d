"""The test kit, used as the tests of a generated project use it: in the process and over real sockets."""

import asyncio
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import falcon.asgi
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

import falcon_pachinko.testing
from falcon_pachinko import (
    App,
    Connection,
    Limits,
    Message,
    Reject,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
    install,
)
from falcon_pachinko.testing import Client, Closed, Refused, Running, run, serve
from falcon_pachinko.uvicorn import PushProtocol
from falcon_pachinko.workers import WorkerController

WAIT_SECONDS = 5.0
# Long enough for what comes at once, and short enough to wait for in vain.
IN_VAIN_SECONDS = 0.05
# Where something else has to come meanwhile.
LONG_IN_VAIN_SECONDS = 1.0

Open = Callable[..., AbstractAsyncContextManager[Running]]


class Say(msgspec.Struct):
    text: str


class Said(Message, frozen=True):
    by_whom: str
    text: str


class Burst(Message, frozen=True):
    number: int


class Left(Message, frozen=True):
    name: str
    code: int


class Lobby(WebSocketResource):
    """Tells everybody what anybody says, and who leaves."""

    limits = Limits(outbox_messages=5, messages_per_second=math.inf)

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.name = name
        if name == "nobody":
            return False
        if name == "stranger":
            raise Reject(4401, "sign in first")
        if name == "echo":
            assert isinstance(ws, Connection)
            await ws.accept(req.scope["subprotocols"][-1], [("X-Node", "one")])
            await ws.send_media(
                {
                    "type": "asked",
                    "payload": {
                        "header": req.get_header("X-Mine"),
                        "cookies": req.cookies,
                        "query": req.params,
                        "origin": req.get_header("Origin"),
                    },
                }
            )
        await self.join_room("lobby")
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: Say) -> None:
        await self.broadcast_to_room("lobby", Said(by_whom=self.name, text=payload.text))

    @handles_message("burst")
    async def burst(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        for number in range(payload["count"]):
            await ws.send_media(Burst(number=number))
        if "close" in payload:
            await ws.close(payload["close"], "as you wish")

    @handles_message("crash")
    async def crash(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise ZeroDivisionError("a bug")

    @handles_binary
    async def turn_round(self, ws: WebSocketLike, data: bytes) -> None:
        await ws.send_data(data[::-1])

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        await self.broadcast_to_room("lobby", Left(name=self.name, code=close_code))


def make_app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/lobby/{name}", Lobby)
    return app


class Plain:
    """An ASGI application without Falcon: one function for its connections, and a life that does nothing."""

    def __init__(self, converse: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self.converse = converse

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self.converse(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{step}"
            await send({"type": f"lifespan.{step}.complete"})


def in_process(app: Any) -> AbstractAsyncContextManager[Running]:
    return run(app)


def in_process_push(app: Any) -> AbstractAsyncContextManager[Running]:
    return run(app, ws=PushProtocol)


def served(app: Any) -> AbstractAsyncContextManager[Running]:
    return serve(app)


def served_push(app: Any) -> AbstractAsyncContextManager[Running]:
    return serve(app, ws=PushProtocol)


EVERYWHERE = [in_process, in_process_push, served, served_push]


@pytest.fixture(params=EVERYWHERE, ids=lambda way: way.__name__)
def everywhere(request: pytest.FixtureRequest) -> Open:
    """Whatever a test does with it happens in the process and over sockets, and is the same."""
    way: Open = request.param
    return way


@pytest.fixture
async def chat(everywhere: Open) -> AsyncIterator[Running]:
    async with everywhere(make_app()) as chat:
        yield chat


@pytest.fixture
async def local() -> AsyncIterator[Running]:
    async with run(make_app()) as chat:
        yield chat


def other_tasks() -> set[asyncio.Task[Any]]:
    this = asyncio.current_task()
    return {task for task in asyncio.all_tasks() if task is not this}


# --- the same everywhere


async def test_two_people_chat(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice:
        async with chat.connect("/lobby/bob") as bob:
            await bob.send("say", Say(text="Hello!"))
            assert await alice.receive(Said) == Said(by_whom="bob", text="Hello!")
            await alice.send("say", {"text": "Hi!"})
            await alice.send({"type": "say", "payload": {"text": "How are you?"}})
            heard = await bob.receive_until("said")
            assert heard == [
                {"type": "said", "payload": {"byWhom": "bob", "text": "Hello!"}},
            ]
            assert [(await bob.receive(Said)).text for _ in range(2)] == ["Hi!", "How are you?"]
            await bob.close(4000, "enough")
        heard = await alice.receive_until(Left)
        assert [message["type"] for message in heard[:-1]] == ["said", "said"]
        assert heard[-1] == Left(name="bob", code=4000)


async def test_raw_messages_are_taken_as_they_are(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice:
        await alice.send_raw(b"abc")
        assert await alice.receive_raw() == b"cba"
        await alice.send_raw('{"type": "burst", "payload": {"count": 1}}')
        assert await alice.receive_raw() == '{"type":"burst","payload":{"number":0}}'
        await alice.send_raw("no JSON")
        assert (await alice.receive())["payload"]["code"] == "unknownMessage"


async def test_the_handshake_carries_what_both_sides_say(chat: Running) -> None:
    async with chat.connect(
        "/lobby/echo?name=Zo%C3%AB&name=B",
        headers={"X-Mine": "yes"},
        cookies={"session": "s", "theme": "dark"},
        subprotocols=["one", "two"],
        origin=chat.origin,
    ) as client:
        assert (await client.receive())["payload"] == {
            "header": "yes",
            "cookies": {"session": "s", "theme": "dark"},
            "query": {"name": ["Zoë", "B"]},
            "origin": chat.origin,
        }
        assert client.subprotocol == "two"
        assert client.headers["x-node"] == "one"


@pytest.mark.parametrize(
    ("path", "origin"), [("/lobby/nobody", None), ("/lobby/a", "https://evil.example"), ("/", None)]
)
async def test_a_refusal_has_its_status(chat: Running, path: str, origin: str | None) -> None:
    with pytest.raises(Refused, match="refused with HTTP 403 Forbidden") as refused:
        async with chat.connect(path, origin=origin):
            pass
    assert (refused.value.status_code, refused.value.body) == (403, b"")
    assert isinstance(refused.value, InvalidStatus)


async def test_an_unknown_option_is_named_with_the_known_ones(chat: Running) -> None:
    options: Any = {"header": {"X-Mine": "yes"}}
    known = "headers, cookies, subprotocols, origin, small_buffer, timeout_seconds"
    with pytest.raises(TypeError, match=rf"no option 'header', but {known}$"):
        async with chat.connect("/lobby/alice", **options):
            pass


async def test_a_path_without_a_slash_is_refused_in_a_sentence(chat: Running) -> None:
    with pytest.raises(ValueError, match=r"^path 'lobby/alice' must begin with '/'$"):
        async with chat.connect("lobby/alice"):
            pass


async def test_an_application_may_answer_with_a_response_of_its_own(everywhere: Open) -> None:
    async def deny(scope: Any, receive: Any, send: Any) -> None:
        assert "websocket.http.response" in scope["extensions"]
        start = {"type": "websocket.http.response.start", "status": 429}
        await send({**start, "headers": [(b"retry-after", b"7")]})
        await send({"type": "websocket.http.response.body", "body": b"too ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"many"})

    async with everywhere(Plain(deny)) as plain:
        with pytest.raises(Refused, match="HTTP 429 Too Many Requests: too many") as refused:
            async with plain.connect("/"):
                pass
    assert refused.value.status_code == 429
    assert refused.value.headers["Retry-After"] == "7"


async def test_a_visible_rejection_has_its_code_and_reason(chat: Running) -> None:
    async with chat.connect("/lobby/stranger") as stranger:
        with pytest.raises(Closed) as closed:
            await stranger.receive()
        assert (closed.value.code, closed.value.reason) == (4401, "sign in first")
        assert isinstance(closed.value, ConnectionClosed)
        assert await stranger.wait_closed() == (4401, "sign in first")


async def test_nothing_is_lost_before_a_close(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice:
        await alice.send("burst", {"count": 500, "close": 4001})
        # Nobody reads before the connection is closed.
        await asyncio.wait_for(alice.socket.wait_closed(), WAIT_SECONDS)
        assert [(await alice.receive(Burst)).number for _ in range(500)] == list(range(500))
        assert await alice.wait_closed() == (4001, "as you wish")
        with pytest.raises(Closed, match=r"with 4001 \(as you wish\) before 'too late' was sent"):
            await alice.send_raw("too late")


@pytest.mark.parametrize("code", [1000, 1001, 4999])
async def test_the_application_sees_the_code_of_the_client(chat: Running, code: int) -> None:
    async with chat.connect("/lobby/alice") as alice, chat.connect("/lobby/bob") as bob:
        await bob.close(code)
        assert await alice.receive(Left) == Left(name="bob", code=code)
        assert await bob.wait_closed() == (code, "")


async def test_who_vanishes_is_gone_without_a_code(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice, chat.connect("/lobby/bob") as bob:
        await bob.send("say", {"text": "last words"})
        assert (await alice.receive(Said)).text == "last words"
        bob.vanish()
        assert await alice.receive(Left) == Left(name="bob", code=1005)
        assert await bob.wait_closed() == (1006, "")


async def test_stopping_closes_every_connection(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice, chat.connect("/lobby/bob") as bob:
        chat.stop()
        assert await alice.wait_closed() == (1012, "")
        assert await bob.wait_closed() == (1012, "")
        with pytest.raises(OSError, match=r"stopped|refused|reset|Connect call failed"):
            async with chat.connect("/lobby/late"):
                pass


async def test_the_end_closes_who_is_still_there(everywhere: Open) -> None:
    async with AsyncExitStack() as clients:
        async with everywhere(make_app()) as chat:
            alice = await clients.enter_async_context(chat.connect("/lobby/alice"))
        assert await alice.wait_closed() == (1012, "")


async def test_a_slow_client_is_closed_and_nobody_else_notices(chat: Running) -> None:
    async with (
        chat.connect("/lobby/alice") as alice,
        chat.connect("/lobby/bob", small_buffer=True) as bob,
    ):
        bob.pause_reading()
        for _ in range(500):  # far more than the kernel's buffers hold
            await alice.send("say", {"text": "x" * 50_000})
            heard = await alice.receive_until("said")
            assert heard[-1]["payload"]["text"] == "x" * 50_000
            if heard[0]["type"] == "left":
                break
        assert heard[0]["payload"] == {"name": "bob", "code": 4008}
        bob.resume_reading()
        assert await bob.wait_closed() == (4008, "reads too slowly")


async def test_a_client_that_reads_again_gets_everything(chat: Running) -> None:
    async with chat.connect("/lobby/alice", small_buffer=True) as alice:
        alice.pause_reading()
        await alice.send("burst", {"count": 200})
        with pytest.raises(RuntimeError, match="does not read; call resume_reading"):
            await alice.receive()
        alice.resume_reading()
        assert [(await alice.receive(Burst)).number for _ in range(200)] == list(range(200))


# --- in the process it is as on a real server


class Probe:
    """An application without Falcon that writes down all that its server shows it.

    Args:
        ending: What it does once it has accepted.
    """

    def __init__(self, ending: str) -> None:
        self.ending = ending
        self.record: list[Any] = []
        self.done = asyncio.Event()

    async def converse(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            self.record.append(scope)
            self.record.append(await receive())
            if self.ending == "refuse":
                await send({"type": "websocket.close", "code": 4003})
            else:
                await send({"type": "websocket.accept"})
                self.record.append(await receive())
            if self.ending == "close":
                await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
                await self.attempt(send)
            for _ in range(1 if self.ending == "client vanishes" else 2):
                self.record.append(await receive())
            await self.attempt(send)
        finally:
            self.done.set()

    async def attempt(self, send: Any) -> None:
        try:
            await send({"type": "websocket.send", "text": "too late"})
        except Exception as error:
            self.record.append((type(error).__mro__, str(error)))

    def seen(self) -> list[Any]:
        """The record without what no two connections share."""
        scope, *rest = self.record
        unlike = {b"host", b"sec-websocket-key"}
        headers = [(n, v if n not in unlike else None) for n, v in scope["headers"]]
        client, server = (type(scope[end][1]) for end in ("client", "server"))
        return [{**scope, "headers": headers, "client": client, "server": server}, *rest]


@pytest.mark.parametrize("ending", ["refuse", "close", "client closes", "client vanishes"])
async def test_an_application_sees_what_it_sees_on_a_real_server(ending: str) -> None:
    async def converse(open_app: Open) -> list[Any]:
        probe = Probe(ending)
        async with open_app(Plain(probe.converse)) as plain:
            if ending == "refuse":
                with pytest.raises(Refused):
                    async with plain.connect("/"):
                        pass
            else:
                path = "/a%20b/%C3%B6?c=d%20e"
                async with plain.connect(path, subprotocols=["x"], origin="http://o") as client:
                    await client.send_raw("hello")
                    if ending == "client closes":
                        await client.close(4000, "bye")
                    elif ending == "client vanishes":
                        client.vanish()
                    else:
                        assert await client.wait_closed() == (4001, "enough")
            await asyncio.wait_for(probe.done.wait(), WAIT_SECONDS)
        return probe.seen()

    seen = await converse(in_process)
    assert seen == await converse(served)
    assert seen[0]["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert OSError in seen[-1][0]


@pytest.mark.parametrize("way", [in_process, served])
async def test_sending_to_who_has_gone_unnoticed_ends_in_an_error(way: Open) -> None:
    gone, noticed = asyncio.Event(), asyncio.Event()

    async def talk(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await gone.wait()
        with suppress(OSError):
            while True:
                await send({"type": "websocket.send", "text": "hello?"})
                await asyncio.sleep(0.001)
        noticed.set()

    async with way(Plain(talk)) as plain, plain.connect("/") as client:
        for _ in range(4):  # uvicorn reads no further, so it does not see the end
            await client.send_raw("hello")
        client.vanish()
        gone.set()
        await asyncio.wait_for(noticed.wait(), WAIT_SECONDS)


async def test_in_the_process_a_client_that_does_not_read_makes_the_next_send_wait() -> None:
    asked, sent = asyncio.Event(), 0

    async def count(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "websocket.accept"})
        for _ in range(2):
            await receive()
        asked.set()
        for _ in range(3):
            await send({"type": "websocket.send", "text": str(sent)})
            sent += 1

    async with run(Plain(count)) as plain, plain.connect("/") as client:
        client.pause_reading()
        await client.send_raw("go")
        await asyncio.wait_for(asked.wait(), WAIT_SECONDS)
        for _ in range(50):
            await asyncio.sleep(0)
        assert sent == 0
        client.resume_reading()
        assert [await client.receive_raw() for _ in range(3)] == ["0", "1", "2"]


async def test_in_the_process_the_bound_of_a_slow_client_is_exact(local: Running) -> None:
    async with local.connect("/lobby/alice") as alice, local.connect("/lobby/bob") as bob:
        bob.pause_reading()
        # One is on its way to bob, five wait, and the next one is too much.
        for number in range(7):
            await alice.send("say", {"text": str(number)})
            await alice.receive(Said)
        assert await alice.receive(Left) == Left(name="bob", code=4008)


# --- what the application does wrong comes out in the test


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("looks", [True, False])
async def test_what_the_application_raises_is_raised_in_the_test(
    accepts: bool, looks: bool
) -> None:
    async def crash(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if accepts:
            await send({"type": "websocket.accept"})
            await receive()
        raise ZeroDivisionError("a bug")

    async def converse() -> None:
        async with run(Plain(crash)) as plain, plain.connect("/") as client:
            await client.send_raw("go")
            if looks:
                await client.receive()

    with pytest.raises(ZeroDivisionError, match="a bug"):
        await converse()
    assert other_tasks() == set()


async def test_a_crash_that_falcon_caught_does_not_go_unseen(local: Running) -> None:
    async def look_away() -> None:
        async with local.connect("/lobby/alice") as alice, local.connect("/lobby/bob") as bob:
            await bob.send("crash")
            assert await alice.receive(Left) == Left(name="bob", code=1011)

    with pytest.raises(Closed, match=r"1011 \(Internal Server Error\) and the test has not seen"):
        await look_away()
    async with local.connect("/lobby/alice") as alice:
        await alice.send("crash")
        assert await alice.receive(Left) == Left(name="alice", code=1011)
        assert await alice.wait_closed() == (1011, "Internal Server Error")


async def test_an_application_that_does_not_end_is_named_and_cancelled() -> None:
    cancelled: list[bool] = []

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with run(Plain(hang)) as plain:
        place = rf"it was in .*\.hang \({re.escape(__file__)}:\d+\) and was cancelled"
        with pytest.raises(TimeoutError, match=rf"not ended 0\.05 s .* gone: {place}"):
            async with plain.connect("/") as client:
                client.timeout_seconds = IN_VAIN_SECONDS
    assert cancelled == [True]
    assert other_tasks() == set()


async def test_a_handler_that_does_not_end_is_named_though_it_runs_in_another_task() -> None:
    stuck = asyncio.Event()

    class Stuck(WebSocketResource):
        async def on_connect(self, *args: Any, **params: Any) -> bool:
            return True

        @handles_message("stick")
        async def stick(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            stuck.set()
            await asyncio.Event().wait()

    app = install(falcon.asgi.App())
    app.add_websocket_route("/stuck", Stuck)

    async def converse() -> None:
        async with run(app) as plain, plain.connect("/stuck") as client:
            await client.send("stick", {})
            await asyncio.wait_for(stuck.wait(), WAIT_SECONDS)
            client.timeout_seconds = IN_VAIN_SECONDS

    place = rf"it was in \S*Stuck\.stick \({re.escape(__file__)}:\d+\) and was cancelled"
    with pytest.raises(TimeoutError, match=place):
        await converse()
    assert other_tasks() == set()


async def test_a_failure_of_the_test_itself_comes_first_and_has_a_note() -> None:
    async def hang(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    async def fail() -> None:
        async with run(Plain(hang)) as plain, plain.connect("/") as client:
            client.timeout_seconds = IN_VAIN_SECONDS
            raise AssertionError("own")

    with pytest.raises(AssertionError, match="own") as failed:
        await fail()
    note = (
        "And then: TimeoutError: the application had not ended 0.05 s after its client was gone: "
    )
    assert failed.value.__notes__[0].startswith(note)


async def test_a_handshake_without_an_answer_ends_in_time() -> None:
    async def say_nothing(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass

    for way in (in_process, served):
        async with way(Plain(say_nothing)) as plain:
            with pytest.raises(TimeoutError, match=r"handshake with .*/x was not answered within"):
                async with plain.connect("/x", timeout_seconds=IN_VAIN_SECONDS):
                    pass


async def test_at_every_await_a_cancellation_of_the_test_leaves_no_task() -> None:
    async def script() -> None:
        async with (
            run(make_app()) as chat,
            chat.connect("/lobby/alice") as alice,
            chat.connect("/lobby/bob") as bob,
        ):
            await alice.send("say", {"text": "Hello!"})
            await bob.receive(Said)
            bob.pause_reading()
            await alice.receive(Said)

    for turns in range(500):
        task = asyncio.create_task(script())
        for _ in range(turns):
            await asyncio.sleep(0)
        ended = task.done()
        task.cancel()
        await asyncio.wait_for(asyncio.wait({task}), WAIT_SECONDS)
        assert task.cancelled() is not ended
        assert other_tasks() == set()
        if ended:
            break
    else:
        pytest.fail("the script never ended by itself")
    assert turns > 20


# --- the application's life


def make_app_with_life(record: list[str], failing: str = "") -> App:
    app = make_app()

    @app.lifespan
    async def life(_: App) -> AsyncIterator[None]:
        record.append("start")
        if failing == "start":
            raise ZeroDivisionError("no database")
        yield
        record.append("stop")
        if failing == "stop":
            raise ZeroDivisionError("no database")

    return app


async def test_the_application_lives_from_before_the_first_client_to_after_the_last(
    everywhere: Open,
) -> None:
    record: list[str] = []
    async with everywhere(make_app_with_life(record)) as chat:
        assert record == ["start"]
        async with chat.connect("/lobby/alice"):
            pass
        assert record == ["start"]
    assert record == ["start", "stop"]


async def test_a_start_that_fails_is_said(everywhere: Open) -> None:
    with pytest.raises(RuntimeError, match="the application's startup failed:"):
        async with everywhere(make_app_with_life([], "start")):
            pytest.fail("it runs")
    assert other_tasks() == set()


@pytest.mark.parametrize("step", ["start", "stop"])
async def test_in_the_process_a_failing_step_has_its_traceback(step: str) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)failed:.*ZeroDivisionError: no database"):
        async with run(make_app_with_life([], step)):
            pass


async def test_what_the_server_raises_at_its_end_is_raised_or_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(sockets: Any) -> None:
        raise ZeroDivisionError("a server's bug")

    async def converse(wrong: bool) -> None:
        async with serve(make_app()) as chat:
            monkeypatch.setattr(chat.server, "shutdown", fail)
            assert not wrong

    with pytest.raises(ZeroDivisionError, match="a server's bug"):
        await converse(wrong=False)
    with pytest.raises(AssertionError) as failed:
        await converse(wrong=True)
    assert "a server's bug" in failed.value.__notes__[0]
    assert other_tasks() == set()


async def test_a_stop_that_fails_after_the_test_has_is_noted() -> None:
    with pytest.raises(AssertionError, match="own") as failed:
        async with run(make_app_with_life([], "stop")):
            raise AssertionError("own")
    assert "no database" in failed.value.__notes__[0]


@pytest.mark.parametrize("way", [run, serve])
async def test_a_start_without_an_end_is_given_up(way: Open) -> None:
    app = make_app()

    @app.lifespan
    async def life(_: App) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    with pytest.raises(TimeoutError, match=r"startup was not done within 0\.05 s"):
        async with way(app, timeout_seconds=IN_VAIN_SECONDS):
            pytest.fail("it runs")
    assert other_tasks() == set()


async def test_the_state_of_the_life_is_seen_by_each_connection() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["database"] = "connected"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": scope["state"]["database"]})

    async with run(app) as plain, plain.connect("/") as client:
        assert await client.receive_raw() == "connected"


async def test_the_death_of_a_worker_fails_its_test_and_no_other(
    everywhere: Open, caplog: pytest.LogCaptureFixture
) -> None:
    die = asyncio.Event()

    async def worker() -> None:
        await die.wait()
        raise ZeroDivisionError("a bug")

    app, workers = make_app(), WorkerController()

    @app.lifespan
    async def life(_: App) -> AsyncIterator[None]:
        await workers.start(worker)
        yield
        await workers.stop()

    async def see_it_die() -> None:
        async with everywhere(app) as chat, chat.connect("/lobby/alice") as alice:
            die.set()
            assert await alice.wait_closed() == (1012, "")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="has asked its server to stop"):
        await see_it_die()
    assert signal.getsignal(signal.SIGTERM) is before
    assert "worker died" in caplog.text


# --- a wrong expectation fails in time and says what came instead


async def expect_silence(client: Client) -> None:
    await client.receive(timeout_seconds=IN_VAIN_SECONDS)


async def expect_after_others(client: Client) -> None:
    await client.send("burst", {"count": 7})
    await client.receive_until("burst")
    await client.receive_until("never", timeout_seconds=LONG_IN_VAIN_SECONDS)


async def expect_after_one(client: Client) -> None:
    await client.send("burst", {"count": 1})
    await client.receive_raw()
    await client.receive(timeout_seconds=IN_VAIN_SECONDS)


async def expect_close(client: Client) -> None:
    client.timeout_seconds = IN_VAIN_SECONDS
    await client.wait_closed()


async def expect_another_type(client: Client) -> None:
    await client.send("burst", {"count": 1})
    await client.receive(Said)


async def expect_another_payload(client: Client) -> None:
    await client.send("say", {"text": "x" * 300})

    class Said(Message, frozen=True):
        text: int

    await client.receive(Said)


async def expect_another_shape(client: Client) -> None:
    await client.send("burst", {"count": 1})
    await client.receive(list)


async def expect_json(client: Client) -> None:
    await client.send_raw(b"{}")
    await client.receive()


async def expect_life(client: Client) -> None:
    await client.send("burst", {"count": 2, "close": 4001})
    await client.receive_until(Said)


async def expect_presence(client: Client) -> None:
    await client.close(4000)
    await client.receive()


async def give_a_payload_to_a_message(client: Client) -> None:
    await client.send(Burst(number=1), {"count": 1})


async def wait_for_a_struct_without_a_type(client: Client) -> None:
    expected: Any = Say
    await client.receive_until(expected)


async def send_a_struct_without_a_type(client: Client) -> None:
    await client.send(Say(text="Hello!"))


WRONG: list[tuple[Callable[[Client], Awaitable[None]], type[Exception], str]] = [
    (
        expect_silence,
        TimeoutError,
        r"a message did not come within 0\.05 s; nothing has come at all$",
    ),
    (
        expect_after_others,
        TimeoutError,
        r"a message of type 'never' did not come within 1\.0 s; meanwhile came 6 messages, the last 5"
        r""" of them: '{"type":"burst","payload":{"number":2}}', .*"number":6}}'$""",
    ),
    (
        expect_after_one,
        TimeoutError,
        r"a message did .*; before came 1 message: '{\"type\":\"burst",
    ),
    (expect_close, TimeoutError, r"a close did not come within 0\.05 s; nothing has come at all$"),
    (
        expect_another_type,
        AssertionError,
        r"expected a message of type 'said', but got '{\"type\":\"b",
    ),
    (
        expect_another_payload,
        AssertionError,
        r"expected a message that fits Said, but got .*xxx\.\.\. \(\d+ long\) \(Expected `int`, got `str`",
    ),
    (
        expect_another_shape,
        AssertionError,
        r"fits list, but got .* \(Expected `array`, got `object`\)",
    ),
    (expect_json, AssertionError, r"expected JSON, but got b'}{' \(.*\): receive_raw\(\) takes it"),
    (
        expect_life,
        Closed,
        r"the server closed the connection with 4001 \(as you wish\) while a message of type 'said' was"
        r" awaited; meanwhile came 2 messages: '{",
    ),
    (
        expect_presence,
        Closed,
        r"this client closed the connection with 4000 while a message was awa",
    ),
    (
        give_a_payload_to_a_message,
        TypeError,
        r"a payload goes with the name of a type, not with Burst",
    ),
    (
        wait_for_a_struct_without_a_type,
        TypeError,
        r'^Say names no type: give a Message or the name of the type; .* send\("type", struct\)$',
    ),
    (
        send_a_struct_without_a_type,
        TypeError,
        r'^Say names no type: send a Message, or send\("type", Say\(\.\.\.\)\)$',
    ),
]


@pytest.mark.parametrize(
    ("expectation", "error", "sentence"), WRONG, ids=[wrong[0].__name__ for wrong in WRONG]
)
async def test_a_wrong_expectation_fails_in_time_with_a_sentence(
    chat: Running,
    expectation: Callable[[Client], Awaitable[None]],
    error: type[Exception],
    sentence: str,
) -> None:
    begun = time.monotonic()
    async with chat.connect("/lobby/alice") as alice:
        with pytest.raises(error, match=sentence):
            await expectation(alice)
    assert time.monotonic() - begun < WAIT_SECONDS


async def test_a_wait_for_one_type_is_bounded_whatever_comes_meanwhile(chat: Running) -> None:
    async with chat.connect("/lobby/alice") as alice:

        async def keep_talking() -> None:
            while True:
                await alice.send("burst", {"count": 1})
                await asyncio.sleep(IN_VAIN_SECONDS / 5)

        talking = asyncio.create_task(keep_talking())
        try:
            with pytest.raises(TimeoutError, match="'never' did not come within"):
                await alice.receive_until("never", timeout_seconds=4 * IN_VAIN_SECONDS)
        finally:
            talking.cancel()
            await asyncio.wait({talking})


# --- the fixtures

CONFTEST = 'pytest_plugins = ["falcon_pachinko.testing.fixtures"]'
PYTEST_INI = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
TESTS = """
    from test_testing import Left, make_app_with_life

    record = []

    async def test_that_passes(run_app, serve_app, open_client):
        for open_app in (run_app, serve_app):
            chat = await open_app(make_app_with_life(record))
            alice = await open_client(chat, "/lobby/alice")
            bob = await open_client(chat, "/lobby/bob", cookies={"a": "b"})
            await bob.close()
            assert await alice.receive(Left) == Left(name="bob", code=1000)
        assert record == ["start", "start"]

    async def test_that_fails(run_app, open_client):
        assert record == ["start", "start", "stop", "stop"]
        chat = await run_app(make_app_with_life(record))
        alice = await open_client(chat, "/lobby/alice", timeout_seconds=1.0)
        await alice.send("say", {"text": "Hello!"})
        await alice.receive_until("answer")

    async def test_that_comes_after_it():
        assert record[4:] == ["start", "stop"]
"""


def python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, which finds these tests."""
    paths = [*sys.path, str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, "-B", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_fixtures_close_what_they_opened_also_when_the_test_fails(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_chat.py").write_text(textwrap.dedent(TESTS))
    (tmp_path / "pytest.ini").write_text(PYTEST_INI)
    finished = python("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path)
    assert "1 failed, 2 passed" in finished.stdout, finished.stdout + finished.stderr
    sentence = "a message of type 'answer' did not come within 1.0 s; meanwhile came 1 message: "
    assert f"TimeoutError: {sentence}" in finished.stdout


CONFTEST_THAT_CHECKS = f"""
import pytest

{CONFTEST}


@pytest.fixture(scope="session")
def check_contract():
    return True
"""
TESTS_OF_UNDECLARED = """
    import pytest
    from test_testing import make_app

    @pytest.mark.parametrize("way", ["run_app", "serve_app"])
    async def test_that_fails(way, request, open_client):
        chat = await request.getfixturevalue(way)(make_app())
        alice = await open_client(chat, "/lobby/alice")
        bob = await open_client(chat, "/lobby/bob")
        await bob.close()
        await alice.receive(timeout_seconds=1.0)
"""


def test_a_suite_has_its_messages_checked_by_a_fixture(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST_THAT_CHECKS)
    (tmp_path / "test_chat.py").write_text(textwrap.dedent(TESTS_OF_UNDECLARED))
    (tmp_path / "pytest.ini").write_text(PYTEST_INI)
    finished = python("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path)
    assert "2 failed" in finished.stdout, finished.stdout + finished.stderr
    assert finished.stdout.count("Undeclared: Lobby sent ") >= 2, finished.stdout


def test_the_kit_does_not_need_pytest(tmp_path: Path) -> None:
    code = "import sys, falcon_pachinko.testing; sys.exit('pytest' in sys.modules)"
    assert python("-c", code, folder=tmp_path).returncode == 0


def test_the_public_names_are_the_listed_ones() -> None:
    assert sorted(falcon_pachinko.testing.__all__) == [
        "Client",
        "Closed",
        "Refused",
        "Running",
        "Served",
        "Undeclared",
        "connect",
        "declarations",
        "run",
        "serve",
    ]
    assert all(hasattr(falcon_pachinko.testing, name) for name in falcon_pachinko.testing.__all__)

"""An application in-process: the same events as on a real server, and its errors in the test."""

import asyncio
import re
from typing import Any

import pytest

from falcon_pachinko.connection.extension import NO_SERVER_EXTENSION
from falcon_pachinko.testing import Closed, Refused, Running, run

from .lobby import (
    SHORT_SECONDS,
    WAIT_SECONDS,
    Left,
    Open,
    Plain,
    Posted,
    in_process,
    make_app,
    other_tasks,
    served,
)


class Probe:
    """An application without Falcon that records its scope, its events and the errors of ``send``.

    Args:
        ending: How the connection ends.
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

    def comparable(self) -> list[Any]:
        """Return the record without the values that differ between connections."""
        scope, *rest = self.record
        unique = {b"host", b"sec-websocket-key"}
        headers = [(n, v if n not in unique else None) for n, v in scope["headers"]]
        client, server = (type(scope[end][1]) for end in ("client", "server"))
        # The test kit marks its connections, because it has no server whose bounds could be missing.
        extensions = {n: v for n, v in scope["extensions"].items() if n != NO_SERVER_EXTENSION}
        ends = {"client": client, "server": server}
        return [{**scope, **ends, "headers": headers, "extensions": extensions}, *rest]


@pytest.mark.parametrize("ending", ["refuse", "close", "client closes", "client vanishes"])
async def test_an_application_sees_the_same_events_as_on_a_real_server(ending: str) -> None:
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
        return probe.comparable()

    record = await converse(in_process)
    assert record == await converse(served)
    assert record[0]["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert OSError in record[-1][0]


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("receives", [True, False])
async def test_an_exception_of_the_application_is_raised_in_the_test(
    accepts: bool, receives: bool
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
            if receives:
                await client.receive()

    with pytest.raises(ZeroDivisionError, match="a bug"):
        await converse()
    assert other_tasks() == set()


async def test_an_unobserved_close_with_1011_fails_the_test(local: Running) -> None:
    async def ignore_close() -> None:
        async with local.connect("/lobby/alice") as alice, local.connect("/lobby/bob") as bob:
            await bob.send("crash")
            assert await alice.receive(Left) == Left(name="bob", code=1011)

    with pytest.raises(
        Closed, match=r"1011 \(Internal Server Error\) and the test did not observe"
    ):
        await ignore_close()
    async with local.connect("/lobby/alice") as alice:
        await alice.send("crash")
        assert await alice.receive(Left) == Left(name="alice", code=1011)
        assert await alice.wait_closed() == (1011, "Internal Server Error")


async def test_an_application_that_does_not_end_is_reported_and_cancelled() -> None:
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
        with pytest.raises(TimeoutError, match=rf"not end 0\.05 s .* disconnected: {place}"):
            async with plain.connect("/") as client:
                client.timeout_seconds = SHORT_SECONDS
    assert cancelled == [True]
    assert other_tasks() == set()


async def test_a_cancellation_of_the_test_at_any_await_leaves_no_task() -> None:
    async def script() -> None:
        async with (
            run(make_app()) as chat,
            chat.connect("/lobby/alice") as alice,
            chat.connect("/lobby/bob") as bob,
        ):
            await alice.send("post", {"text": "Hello!"})
            await bob.receive(Posted)
            bob.pause_reading()
            await alice.receive(Posted)

    for iterations in range(500):
        task = asyncio.create_task(script())
        for _ in range(iterations):
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
    assert iterations > 20

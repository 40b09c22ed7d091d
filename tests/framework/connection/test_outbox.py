"""The contract of both outboxes: order, an exact bound, waits that end."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from falcon_pachinko import Limits
from falcon_pachinko.connection.inbox import Event
from falcon_pachinko.connection.outbox import ASGIOutbox, Outbox
from falcon_pachinko.errors import OutboxFull
from falcon_pachinko.publication import Publication
from falcon_pachinko.uvicorn.outbox import PushOutbox

WAIT_SECONDS = 5.0
CLOSE = {"type": "websocket.close", "code": 4001, "reason": ""}


class Way:
    """An outbox to a client: the test controls its reading."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.failures: list[Exception] = []
        self.outbox: Outbox

    def block(self) -> None:
        """Let the client stop reading; data already passed to the server still arrives."""
        raise NotImplementedError

    def resume(self) -> None:
        """Let the client read again."""
        raise NotImplementedError

    async def settle(self) -> None:
        """Wait for the end of the loop iteration and the arrival of pending messages."""
        await asyncio.wait_for(self.outbox.wait_drained(), WAIT_SECONDS)
        for _ in range(3):
            await asyncio.sleep(0)


class PortableWay(Way):
    def __init__(self) -> None:
        super().__init__()
        self.room = asyncio.Event()
        self.room.set()
        self.outbox = ASGIOutbox(self.send, self.failures.append)

    async def send(self, event: Event) -> None:
        await self.room.wait()
        self.arrived.append(event.get("text") or str(event["code"]))

    def block(self) -> None:
        self.room.clear()
        self.outbox.write(Publication.of_text("in flight"))

    def resume(self) -> None:
        self.room.set()


class PushWay(Way):
    def __init__(self) -> None:
        super().__init__()
        transport: Any = SimpleNamespace(
            write=self.write,
            abort=lambda: None,
            is_closing=lambda: False,
            get_write_buffer_size=lambda: 0,
        )
        loop = asyncio.get_running_loop()
        self.outbox: PushOutbox = PushOutbox(loop, transport, self.send, self.failures.append)

    def write(self, frames: bytes) -> None:
        while frames:
            size = frames[1]
            self.arrived.append(frames[2 : 2 + size].decode())
            frames = frames[2 + size :]

    async def send(self, event: Event) -> None:
        self.arrived.append(str(event["code"]))

    def block(self) -> None:
        self.outbox.write(Publication.of_text("in flight"))
        self.outbox.batch.flush()
        self.outbox.pause()

    def resume(self) -> None:
        self.outbox.resume()


@pytest.fixture(params=[PortableWay, PushWay])
async def way(request: pytest.FixtureRequest) -> Way:
    made: Callable[[], Way] = request.param
    return made()


async def test_messages_are_written_at_once_to_a_reading_client(way: Way) -> None:
    way.outbox.limits = Limits(outbox_messages=1)
    for text in ("one", "two", "three"):
        way.outbox.write(Publication.of_text(text))
    assert not way.outbox.waiting
    await way.settle()
    assert way.arrived == ["one", "two", "three"]


async def test_pending_messages_and_the_close_keep_their_order(way: Way) -> None:
    way.outbox.write(Publication.of_text("before"))
    way.block()
    for text in ("one", "two"):
        way.outbox.write(Publication.of_text(text))
    way.outbox.write(Publication.of_event(CLOSE))
    assert way.outbox.waiting
    way.resume()
    await way.settle()
    assert way.arrived == ["before", "in flight", "one", "two", "4001"]


@pytest.mark.parametrize(
    ("limits", "fits"),
    [(Limits(outbox_messages=3), 3), (Limits(outbox_bytes=30), 3), (Limits(outbox_bytes=29), 2)],
)
async def test_bound_is_exact_to_one_message(way: Way, limits: Limits, fits: int) -> None:
    way.outbox.limits = limits
    way.block()
    for _ in range(fits):
        way.outbox.write(Publication.of_text("x" * 10))
    await asyncio.sleep(0)
    assert way.failures == []
    way.outbox.write(Publication.of_text("x" * 10))
    await asyncio.sleep(0)
    assert [type(failure) for failure in way.failures] == [OutboxFull]
    way.outbox.abort()


async def test_freed_capacity_can_be_reused(way: Way) -> None:
    way.outbox.limits = Limits(outbox_messages=2)
    for number in range(3):
        way.block()
        way.outbox.write(Publication.of_text(f"{number}a"))
        way.outbox.write(Publication.of_text(f"{number}b"))
        way.resume()
        await way.settle()
    assert [text for text in way.arrived if text != "in flight"] == [
        f"{number}{letter}" for number in range(3) for letter in "ab"
    ]


async def test_wait_drained_ends_when_the_client_reads_or_at_its_timeout(way: Way) -> None:
    way.block()
    way.outbox.write(Publication.of_text("x"))
    await asyncio.wait_for(way.outbox.wait_drained(0.01), WAIT_SECONDS)
    assert way.outbox.waiting
    waiting = asyncio.create_task(way.outbox.wait_drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    way.resume()
    await asyncio.wait_for(waiting, WAIT_SECONDS)
    assert way.arrived == ["in flight", "x"]


async def test_cancelled_wait_has_no_effect(way: Way) -> None:
    way.block()
    way.outbox.write(Publication.of_text("x"))
    waiting = asyncio.create_task(way.outbox.wait_drained())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    way.resume()
    await way.settle()
    assert way.arrived == ["in flight", "x"]


async def test_cleared_messages_are_dropped_and_a_later_close_is_sent(way: Way) -> None:
    way.block()
    way.outbox.write(Publication.of_text("dropped"))
    way.outbox.discard()
    way.outbox.write(Publication.of_event(CLOSE))
    way.resume()
    await way.settle()
    assert way.arrived == ["in flight", "4001"]

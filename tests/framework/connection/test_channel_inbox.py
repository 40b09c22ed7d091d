"""The messages of a client, distributed to its channels."""

import asyncio
import json
from collections import deque
from collections.abc import Callable

import pytest

from falcon_pachinko import Limits
from falcon_pachinko.connection.channel_inbox import SLOW_CHANNELS, ChannelInbox, Demultiplexer
from falcon_pachinko.connection.inbox import Message


class Source:
    """An inbox with given messages."""

    def __init__(self, *messages: Message) -> None:
        self.limits = Limits(inbox_messages=2)
        self.messages = deque(messages)
        self.interrupted = False
        self.full = False
        self.size_bytes = self.received = self.received_bytes = 0

    async def next(self) -> Message | None:
        return self.messages.popleft() if self.messages else None

    def interrupt(self) -> None:
        self.interrupted = True

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def expect_reply(self, take: Callable[[Message], bool]) -> None: ...

    def start_watching(self) -> None: ...

    async def stop_watching(self) -> None: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


def of_room(room: object, **fields: object) -> str:
    return json.dumps({"type": "say", "room": room, **fields})


def channel_of(demultiplexer: Demultiplexer, room: str) -> ChannelInbox:
    inbox = demultiplexer.channels[room] = ChannelInbox(demultiplexer)
    inbox.limits = demultiplexer.limits
    return inbox


async def test_messages_go_to_their_channels_in_order() -> None:
    others: list[Message] = [
        "{}",
        of_room("c"),
        of_room(5),
        of_room(None),
        b'{"room":"a"}',
        '{"room"',
    ]
    demultiplexer = Demultiplexer(
        Source(of_room("a", n=1), *others, of_room("b"), of_room("a", n=2))
    )
    a, b = channel_of(demultiplexer, "a"), channel_of(demultiplexer, "b")
    assert [await demultiplexer.next() for _ in others] == others
    assert await demultiplexer.next() is None
    assert [await a.next(), await a.next()] == [of_room("a", n=1), of_room("a", n=2)]
    assert await b.next() == of_room("b")
    assert (demultiplexer.count, demultiplexer.waiting_bytes) == (0, 0)


async def test_a_large_message_is_for_the_reader_which_closes() -> None:
    large = of_room("a", text="x" * Limits().max_message_bytes)
    demultiplexer = Demultiplexer(Source(large))
    channel_of(demultiplexer, "a")
    assert await demultiplexer.next() == large


async def test_the_reader_waits_for_a_full_channel_until_it_reads() -> None:
    demultiplexer = Demultiplexer(Source(*[of_room("a", n=n) for n in range(3)], "{}"))
    a = channel_of(demultiplexer, "a")
    reading = asyncio.create_task(demultiplexer.next())
    await asyncio.sleep(0)
    assert not reading.done()
    assert (len(a.queue), a.full) == (2, True)
    assert await a.next() == of_room("a", n=0)
    assert await reading == "{}"


async def test_a_channel_that_ends_lets_the_reader_go_on() -> None:
    demultiplexer = Demultiplexer(Source(*[of_room("a", n=n) for n in range(5)], "{}"))
    a = channel_of(demultiplexer, "a")
    reading = asyncio.create_task(demultiplexer.next())
    await asyncio.sleep(0)
    a.interrupt()
    assert await reading == "{}"
    assert await a.next() is None
    assert (demultiplexer.count, demultiplexer.waiting_bytes, a.size_bytes) == (0, 0, 0)


async def test_all_channels_together_have_a_bound() -> None:
    rooms = [f"r{number}" for number in range(2 * SLOW_CHANNELS + 1)]
    demultiplexer = Demultiplexer(Source(*map(of_room, rooms), "{}"))
    channels = [channel_of(demultiplexer, room) for room in rooms]
    reading = asyncio.create_task(demultiplexer.next())
    await asyncio.sleep(0)
    assert demultiplexer.channels_full
    assert not reading.done()
    assert not channels[-1].queue
    await channels[0].next()
    assert await reading == "{}"


async def test_a_pause_and_its_end() -> None:
    demultiplexer = Demultiplexer(Source(of_room("a"), "{}"))
    a = channel_of(demultiplexer, "a")
    a.pause()
    reading = asyncio.create_task(demultiplexer.next())
    await asyncio.sleep(0)
    assert not reading.done()
    a.resume()
    assert await reading == "{}"


async def test_the_end_comes_after_the_messages_and_an_interruption_before() -> None:
    demultiplexer = Demultiplexer(Source(of_room("a"), of_room("b")))
    a, b = channel_of(demultiplexer, "a"), channel_of(demultiplexer, "b")
    assert await demultiplexer.next() is None
    a.end()
    assert await a.next() == of_room("a")
    assert await a.next() is None
    demultiplexer.interrupt()
    assert await b.next() is None


async def test_a_reader_that_waits_is_woken() -> None:
    demultiplexer = Demultiplexer(Source())
    a = channel_of(demultiplexer, "a")
    waiting = asyncio.create_task(a.next())
    await asyncio.sleep(0)
    a.end()
    assert await asyncio.wait_for(waiting, 1) is None


@pytest.mark.parametrize("taken", [True, False])
async def test_a_reply_is_taken_before_the_queue(taken: bool) -> None:
    demultiplexer = Demultiplexer(Source(of_room("a")))
    a = channel_of(demultiplexer, "a")
    a.expect_reply(lambda message: taken)
    assert await demultiplexer.next() is None
    assert len(a.queue) == (not taken)

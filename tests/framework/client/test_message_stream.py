"""The queue of received messages: what is in it, its end, listeners that fail."""

import asyncio
import logging
from typing import Any

import pytest

from falcon_pachinko.client.envelope import MessageTypes
from falcon_pachinko.client.machine import Machine
from falcon_pachinko.client.message_stream import MessageStream
from falcon_pachinko.client.options import Options
from falcon_pachinko.client.sockets import AsyncioPlatform
from falcon_pachinko.errors import ClientClosed
from falcon_pachinko.messages import ServerPosition, ServerSessionExpiring

from .chat import ServerSaid
from .simulation import FakeSocket, Simulation


def make_stream(**options: Any) -> tuple[MessageStream, Simulation]:
    """Return an open stream over a simulated socket."""
    simulation = Simulation()
    machine = Machine("ws://server.test/", Options(**options), simulation, client_id="a" * 32)
    stream = MessageStream(machine, AsyncioPlatform(1_000), MessageTypes([ServerSaid]))
    machine.start()
    simulation.socket.open()
    return stream, simulation


def say(socket: FakeSocket, text: str) -> None:
    socket.receive({"type": "serverSaid", "payload": {"text": text}})


async def test_messages_of_the_state_machine_are_not_returned() -> None:
    stream, simulation = make_stream()
    socket = simulation.socket
    for message_type in ("serverPong", "serverPosition", "serverAck"):
        socket.receive({"type": message_type, "payload": {}})
    socket.receive({"type": "serverPosition", "payload": {"recovered": True}, "id": "e:1"})
    socket.receive({"type": "serverSessionExpiring", "payload": {"expiresInSeconds": 3}})
    say(socket, "a")
    assert [await anext(stream) for _ in range(3)] == [
        ServerPosition(recovered=True),
        ServerSessionExpiring(expires_in_seconds=3),
        ServerSaid(text="a"),
    ]


async def test_what_was_received_is_returned_before_the_end_is_raised() -> None:
    stream, simulation = make_stream()
    say(simulation.socket, "a")
    simulation.socket.end(4401, "signed out")
    assert await anext(stream) == ServerSaid(text="a")
    for _ in range(2):
        with pytest.raises(ClientClosed, match="close code 4401, signed out"):
            await anext(stream)
    with pytest.raises(ClientClosed):
        await stream.receive()


async def test_a_waiting_iteration_ends_with_its_client() -> None:
    stream, _ = make_stream()
    waiting = asyncio.create_task(anext(stream, "the end"))
    await asyncio.sleep(0)
    stream._close()
    async with asyncio.timeout(5):
        assert await waiting == "the end"


async def test_reading_stops_at_the_bound_and_goes_on_below_it() -> None:
    stream, simulation = make_stream(max_received_messages=2)
    machine, readable = stream._machine, stream._platform.readable
    say(simulation.socket, "a")
    assert readable.is_set()
    say(simulation.socket, "b")
    assert (readable.is_set(), machine.full_streams) == (False, {stream})
    await anext(stream)
    assert (readable.is_set(), machine.full_streams) == (True, set())


async def test_reading_stops_at_a_number_of_bytes() -> None:
    stream, simulation = make_stream(max_received_bytes=2_000)
    readable = stream._platform.readable
    say(simulation.socket, "x" * 1_500)
    assert readable.is_set()
    say(simulation.socket, "x" * 1_500)
    assert not readable.is_set()
    await anext(stream)
    assert readable.is_set()
    await anext(stream)
    assert (stream._received_bytes, stream._machine.full_streams) == (0, set())


async def test_a_listener_that_fails_affects_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    stream, simulation = make_stream()
    seen: list[int | None] = []
    stream.on_status(lambda status: 1 // 0)
    stream.on_status(lambda status: seen.append(status.code))
    with caplog.at_level(logging.CRITICAL):
        simulation.socket.end(1012, "retry=2")
    assert (seen, round(simulation.timers[0].at - simulation.now, 3)) == ([1012], 2)


async def test_a_room_that_has_ended_does_not_stop_the_reading() -> None:
    stream, simulation = make_stream(max_received_messages=1)
    say(simulation.socket, "a")
    assert not stream._platform.readable.is_set()
    simulation.socket.end(4403, "banned")
    assert stream._platform.readable.is_set()
    assert await anext(stream) == ServerSaid(text="a")


async def test_a_send_goes_on_when_a_probe_was_answered() -> None:
    stream, simulation = make_stream(max_queued_messages=1)
    socket = simulation.socket
    socket.receive({"type": "serverPosition", "payload": {"heartbeatSeconds": 20}})
    stream._machine.liveness.wake()
    await stream.send("clientSay", {"text": "a"})
    waiting = asyncio.create_task(stream.send("clientSay", {"text": "b"}))
    await asyncio.sleep(0)
    assert not waiting.done()
    socket.receive({"type": "serverPong", "payload": {}})
    async with asyncio.timeout(5):
        await waiting
    assert len(socket.sent) == 3


async def test_requests_with_once_that_are_cancelled_together_are_not_sent() -> None:
    stream, simulation = make_stream()
    waiting = [
        asyncio.create_task(stream.request("clientSay", {"text": text}, once=True))
        for text in "abc"
    ]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    simulation.settle()
    assert (len(simulation.socket.sent), stream.queued_messages) == (1, 0)

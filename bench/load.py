"""The load client: a process of its own that speaks to one server, and counts what comes back.

It reads with picows, which parses frames in C and neither decodes nor decompresses them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Sequence

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .measure import cpu_seconds, memory_bytes
from .plan import Outcome, Plan

BOUND_SECONDS = 60
CONNECTS_AT_ONCE = 50
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}


class Member(WSListener):
    """A connection in a room."""

    transport: WSTransport

    def __init__(self, room: Room) -> None:
        self.room = room
        self.got = 0
        self.ready = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.ready.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self.got += 1
            self.room.count()
        elif frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()

    def say(self, message: bytes) -> None:
        self.transport.send(WSMsgType.TEXT, message)


class Room:
    """The members of a room, and the messages of its first member that are on their way to all.

    Attributes:
        got: How many messages have arrived, over all members.
        due: How many are to arrive of all that was said.
        idle: Set while nothing is on its way.
    """

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        self.message = plan.message.encode()
        self.members = [Member(self) for _ in range(plan.room_members)]
        self.url = f"ws://127.0.0.1:{plan.port}{plan.path.format(room=f'room{number}')}"
        self.got = self.due = 0
        self.goes_on = False
        self.idle = asyncio.Event()
        self.idle.set()

    async def connect(self) -> None:
        """Let all members in, one after the other, so that the first is the sender."""
        for member in self.members:
            await ws_connect(
                lambda member=member: member,  # type: ignore[misc]
                self.url,
                websocket_handshake_timeout=BOUND_SECONDS,
                extra_headers=OFFER if self.plan.deflate else None,
            )
            await member.ready.wait()

    async def settle(self) -> None:
        """Wait until a message reaches all: some servers accept before the room is joined."""
        while True:
            self.got, self.due = 0, self.plan.room_members
            for member in self.members:
                member.got = 0
            self.idle.clear()
            self.members[0].say(self.message)
            try:
                async with asyncio.timeout(2):
                    await self.idle.wait()
                return
            except TimeoutError:
                continue

    def speak(self) -> None:
        """Say as many messages as may be on their way."""
        self.idle.clear()
        self.due += len(self.members) * self.plan.in_flight
        for _ in range(self.plan.in_flight):
            self.members[0].say(self.message)

    def count(self) -> None:
        """Take note of a delivery; after the last one due, go on."""
        self.got += 1
        if self.got == self.due:
            if self.goes_on:
                self.speak()
            else:
                self.idle.set()


async def open_rooms(plan: Plan) -> list[Room]:
    """Connect everybody."""
    rooms = [Room(plan, number) for number in range(plan.connections // plan.room_members)]
    for first in range(0, len(rooms), CONNECTS_AT_ONCE):
        await asyncio.gather(*(room.connect() for room in rooms[first : first + CONNECTS_AT_ONCE]))
    await asyncio.gather(*(room.settle() for room in rooms))
    return rooms


async def speak_for(rooms: Sequence[Room], seconds: float) -> int:
    """Let every room speak as fast as its members hear; return how many messages were delivered.

    It ends when nothing is on its way any more.
    """
    before = sum(room.got for room in rooms)
    for room in rooms:
        room.goes_on = True
        room.speak()
    await asyncio.sleep(seconds)
    for room in rooms:
        room.goes_on = False
    for room in rooms:
        await room.idle.wait()
    return sum(room.got for room in rooms) - before


async def burst(plan: Plan) -> Outcome:
    """CPU time of the server per delivered message, while each room speaks as fast as it hears."""
    rooms = await open_rooms(plan)
    await speak_for(rooms, plan.seconds / 3)
    started, own, servers = time.perf_counter(), time.process_time(), cpu_seconds(plan.pid)
    delivered = await speak_for(rooms, plan.seconds)
    servers, own = cpu_seconds(plan.pid) - servers, time.process_time() - own
    seconds = time.perf_counter() - started
    return {
        "cpu_us": servers / delivered * 1e6,
        "deliveries_per_second": delivered / seconds,
        "server_busy": servers / seconds,
        "client_busy": own / seconds,
    }


async def idle(plan: Plan) -> Outcome:
    """Memory of the server per connection that does nothing."""
    before = memory_bytes(plan.pid)
    await open_rooms(plan)
    return {"kib": (memory_bytes(plan.pid) - before) / plan.connections / 1024}


KINDS = {"burst": burst, "idle": idle}


async def follow(plan: Plan) -> Outcome:
    """Do what the plan says, within a bound."""
    async with asyncio.timeout(BOUND_SECONDS + 3 * plan.seconds):
        return await KINDS[plan.kind](plan)


def main() -> None:
    """Take a plan as JSON and print what was found as JSON."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # NOTE: a collection would be a pause that looks like the server's.
    gc.disable()
    print(json.dumps(uvloop.run(follow(Plan(**json.loads(sys.argv[1]))))))


if __name__ == "__main__":
    main()

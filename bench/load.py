"""The load client: a process of its own that speaks to one server, and measures it as it is told.

It takes a plan as its argument, prints a line when everybody is connected, and then answers each order
that it reads with a line, until there are no more.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from array import array

import uvloop

from .crowd import Room, connect_stalled, gather, wait_idle
from .measure import cpu_seconds, memory_bytes, resident_bytes
from .plan import Order, Outcome, Plan

ARRIVE_SECONDS = 30
SETTLED_SECONDS = 0.2
# A server without anything to do looks at its clock now and then.
IDLE_BUSY = 0.05


class Client:
    """The load on one server.

    Attributes:
        empty_bytes: What the server held before anybody had connected.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.empty_bytes = sum(memory_bytes(pid) for pid in plan.pids)
        self.rooms: list[Room] = []

    def server_seconds(self) -> float:
        """CPU time of all processes of the server so far."""
        return sum(cpu_seconds(pid) for pid in self.plan.pids)

    def engine_seconds(self) -> float:
        """CPU time of their engine so far."""
        return cpu_seconds(self.plan.engine_pid) if self.plan.engine_pid else 0.0

    async def burst(self, order: Order) -> Outcome:
        """CPU time of the server per delivery, while each room speaks as fast as its members hear.

        It begins and ends with nothing on its way.
        """
        delivered = -sum(room.got for room in self.rooms)
        started, own, servers = time.perf_counter(), time.process_time(), self.server_seconds()
        engine = self.engine_seconds()
        for room in self.rooms:
            room.goes_on = True
            room.complete()
        await asyncio.sleep(order.seconds)
        for room in self.rooms:
            room.goes_on = False
        await wait_idle(self.rooms, ARRIVE_SECONDS)
        servers, own = self.server_seconds() - servers, time.process_time() - own
        engine = self.engine_seconds() - engine
        seconds = time.perf_counter() - started
        delivered += sum(room.got for room in self.rooms)
        outcome = {
            "cpu_us": servers / delivered * 1e6,
            "deliveries_per_second": delivered / seconds,
            "server_busy": servers / seconds,
            "client_busy": own / seconds,
        }
        if self.plan.engine_pid:
            outcome["engine_us"] = engine / delivered * 1e6
        return outcome

    async def memory(self, order: Order) -> Outcome:
        """Memory of the server per connection, once it has nothing to do any more."""
        before, busy = self.server_seconds(), 1.0
        while busy > IDLE_BUSY:
            await asyncio.sleep(SETTLED_SECONDS)
            used = self.server_seconds()
            before, busy = used, (used - before) / SETTLED_SECONDS
        held = sum(memory_bytes(pid) for pid in self.plan.pids) - self.empty_bytes
        return {"kib": held / self.plan.connections / 1024}

    async def paced(self, order: Order) -> Outcome:
        """How long deliveries take while messages are said at a given pace, whatever arrives."""
        outcome = await self.speak_paced(order)
        await wait_idle(self.rooms, ARRIVE_SECONDS)
        return outcome

    async def stall(self, order: Order) -> Outcome:
        """The same, with one more in the first room who reads nothing, and what that takes of memory.

        It is the last order: where a stalled reader stops its room, speakers may be lost with it.
        """
        path = self.rooms[0].path
        stalled = await connect_stalled(self.plan, path)
        try:
            return await self.speak_paced(order)
        finally:
            stalled.close()

    async def speak_paced(self, order: Order) -> Outcome:
        """Speak in all rooms by turns, and note delays.

        A message that has not arrived at the end counts as having taken until then.
        """
        for room in self.rooms:
            room.forget_counts()
            room.delays = array("d")
        before = most = resident_bytes(self.plan.pids[0])
        own, started = time.process_time(), time.perf_counter()
        said = 0
        while (elapsed := time.perf_counter() - started) < order.seconds:
            while said < elapsed * order.messages_per_second:
                self.rooms[said % len(self.rooms)].say(1)
                said += 1
            most = max(most, resident_bytes(self.plan.pids[0]))
            await asyncio.sleep(1 / order.messages_per_second)
        now = time.perf_counter()
        delays = [delay for room in self.rooms for delay in room.delays or ()]
        arrived = len(delays)
        for room in self.rooms:
            for member in room.members:
                delays.extend(now - said_at for said_at in room.said_at[member.got :])
            room.delays = None
        delays.sort()
        return {
            "p50_ms": 1_000 * delays[len(delays) // 2],
            "p99_ms": 1_000 * delays[len(delays) * 99 // 100],
            "arrived": arrived / len(delays),
            "grown_kib": (most - before) / 1024,
            "messages_per_second": said / elapsed,
            "client_busy": (time.process_time() - own) / elapsed,
        }


async def follow(plan: Plan) -> None:
    """Connect everybody, then carry out orders."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    client = Client(plan)
    client.rooms = await gather(plan)
    print("{}", flush=True)
    while line := await orders.readline():
        order = Order(**json.loads(line))
        outcome = await getattr(client, order.action)(order)
        print(json.dumps(outcome), flush=True)


def main() -> None:
    """Let as many connect as the operating system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # NOTE: a collection would be a pause that looks like the server's.
    gc.disable()
    uvloop.run(follow(Plan(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()

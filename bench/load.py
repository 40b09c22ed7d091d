"""The load client: a process that loads one server and measures it.

Its argument is a plan. It prints a line when all clients are connected, then responds to each order
on its standard input with a line.
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

from .measure import cpu_seconds, memory_bytes, resident_bytes
from .plan import Order, Outcome, Plan
from .rooms import Room, connect_rooms, connect_stalled, wait_idle
from .visitors import visit

ARRIVE_SECONDS = 30
# Longer than the time for which announcements of a room wait for each other.
SETTLED_SECONDS = 0.3
# The load of an idle server, from its timers.
IDLE_BUSY = 0.05


class Client:
    """The load on one server.

    Attributes:
        empty_bytes: The server's memory without connections.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.empty_bytes = sum(memory_bytes(pid) for pid in plan.pids)
        self.rooms: list[Room] = []

    def server_seconds(self) -> float:
        """Return the CPU time of all processes of the server."""
        return sum(cpu_seconds(pid) for pid in self.plan.pids)

    def redis_seconds(self) -> float:
        """Return the CPU time of the Valkey of the server, if it has one."""
        return cpu_seconds(self.plan.redis_pid) if self.plan.redis_pid else 0.0

    async def burst(self, order: Order) -> Outcome:
        """Measure the CPU time per delivery while each room sends as fast as its members receive.

        No message is in transit at the beginning and at the end.
        """
        delivered = -sum(room.received for room in self.rooms)
        payload_bytes = -sum(room.payload_bytes for room in self.rooms)
        started, own, servers = time.perf_counter(), time.process_time(), self.server_seconds()
        redis = self.redis_seconds()
        for room in self.rooms:
            room.repeats = True
            room.complete()
        await asyncio.sleep(order.seconds)
        for room in self.rooms:
            room.repeats = False
        await wait_idle(self.rooms, ARRIVE_SECONDS)
        servers, own = self.server_seconds() - servers, time.process_time() - own
        redis = self.redis_seconds() - redis
        seconds = time.perf_counter() - started
        delivered += sum(room.received for room in self.rooms)
        broadcasts = delivered / self.rooms[0].recipients
        outcome = {
            "cpu_us": servers / delivered * 1e6,
            "total_us": (servers + redis) / delivered * 1e6,
            "broadcast_us": servers / broadcasts * 1e6,
            "deliveries_per_second": delivered / seconds,
            "server_busy": servers / seconds,
            "client_busy": own / seconds,
        }
        if self.plan.redis_pid:
            outcome["redis_us"] = redis / delivered * 1e6
            outcome["redis_broadcast_us"] = redis / broadcasts * 1e6
        if self.plan.offer:
            payload_bytes += sum(room.payload_bytes for room in self.rooms)
            outcome["bytes"] = payload_bytes / delivered
        return outcome

    async def settle(self) -> tuple[float, float]:
        """Wait until the server is idle; return its CPU time, and the share of a core that it takes when idle."""
        async with asyncio.timeout(ARRIVE_SECONDS):
            before, started, busy = self.server_seconds(), time.perf_counter(), 1.0
            while busy > IDLE_BUSY:
                await asyncio.sleep(SETTLED_SECONDS)
                used, now = self.server_seconds(), time.perf_counter()
                busy = (used - before) / (now - started)
                before, started = used, now
        return before, busy

    async def connect(self, order: Order) -> Outcome:
        """Measure the CPU time per client that connects, and per client that leaves."""
        return await visit(self.plan, self.plan.path.format(room="visited"), self.settle)

    async def join(self, order: Order) -> Outcome:
        """Measure the same for clients of each room, whose members get what the server announces."""
        outcome = {}
        for room in self.rooms:
            each = await visit(self.plan, room.path, self.settle)
            outcome[f"join_{len(room.members)}_us"] = each["connect_us"]
            outcome[f"leave_{len(room.members)}_us"] = each["disconnect_us"]
        return outcome

    async def memory(self, order: Order) -> Outcome:
        """Measure the memory per connection of the idle server."""
        await self.settle()
        held = sum(memory_bytes(pid) for pid in self.plan.pids) - self.empty_bytes
        return {"kib": held / sum(self.plan.rooms) / 1024}

    async def paced(self, order: Order) -> Outcome:
        """Measure the delay of deliveries at a fixed rate, independent of the deliveries."""
        outcome = await self.send_paced(order)
        await wait_idle(self.rooms, ARRIVE_SECONDS)
        return outcome

    async def stall(self, order: Order) -> Outcome:
        """Measure the same with a stalled reader in the first room, and the growth of memory.

        It must be the last order: a stalled reader that stops its room may lose the sender too.
        """
        path = self.rooms[0].path
        stalled = await connect_stalled(self.plan, path)
        try:
            return await self.send_paced(order)
        finally:
            stalled.close()

    async def send_paced(self, order: Order) -> Outcome:
        """Send to all rooms in rotation, and record the delays.

        A message that has not arrived at the end counts with the time until then.
        """
        for room in self.rooms:
            room.reset_counts()
            room.delays = array("d")
        before = most = resident_bytes(self.plan.pids[0])
        own, started = time.process_time(), time.perf_counter()
        sent = 0
        while (elapsed := time.perf_counter() - started) < order.seconds:
            while sent < elapsed * order.messages_per_second:
                self.rooms[sent % len(self.rooms)].send(1)
                sent += 1
            most = max(most, resident_bytes(self.plan.pids[0]))
            await asyncio.sleep(1 / order.messages_per_second)
        now = time.perf_counter()
        delays = [delay for room in self.rooms for delay in room.delays or ()]
        arrived = len(delays)
        for room in self.rooms:
            for member in room.members:
                delays.extend(now - sent_at for sent_at in room.sent_at[member.received :])
            room.delays = None
        delays.sort()
        return {
            "p50_ms": 1_000 * delays[len(delays) // 2],
            "p99_ms": 1_000 * delays[len(delays) * 99 // 100],
            "arrived": arrived / len(delays),
            "grown_kib": (most - before) / 1024,
            "messages_per_second": sent / elapsed,
            "client_busy": (time.process_time() - own) / elapsed,
        }


async def run_plan(plan: Plan) -> None:
    """Connect all clients, then execute orders."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    client = Client(plan)
    client.rooms = await connect_rooms(plan)
    print("{}", flush=True)
    while line := await orders.readline():
        order = Order(**json.loads(line))
        outcome = await getattr(client, order.action)(order)
        print(json.dumps(outcome), flush=True)


def main() -> None:
    """Run the load client with the highest limit of open files."""
    _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))
    # NOTE: a garbage collection would count as a delay of the server.
    gc.disable()
    uvloop.run(run_plan(Plan(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()

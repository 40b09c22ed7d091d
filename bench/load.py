"""The load client: a process that loads one server and measures it.

Its argument is a plan. It prints a line when all clients are connected, then responds to each order
on its standard input with a line. With more processes, it starts the others, which are the same program
with a share of the rooms: they connect and send when it orders them to, and only it measures the server.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import resource
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import uvloop

from .child import Child, python, start
from .install import ROOT, environment
from .measure import cpu_seconds, memory_bytes, resident_bytes
from .plan import ANSWER_SECONDS, Order, Outcome, Plan, ask
from .rooms import Room, connect_rooms, connect_stalled, wait_idle
from .visitors import visit

ARRIVE_SECONDS = 30
# Longer than the time for which announcements of a room wait for each other.
SETTLED_SECONDS = 0.3
# The load of an idle server: its timers, and the pings and checks of a connection.
IDLE_BUSY, IDLE_BUSY_PER_CONNECTION = 0.05, 20e-6


class Client:
    """The load on one server.

    Attributes:
        plan: The share of this process.
        others: The other processes of the load client.
        empty_bytes: The server's memory without connections.
        rooms: The connected rooms of this process.
        connections: The connections of all processes.
    """

    def __init__(self, plan: Plan, others: Sequence[Child]) -> None:
        self.plan = plan
        self.others = others
        self.empty_bytes = sum(memory_bytes(pid) for pid in plan.pids)
        self.rooms: list[Room] = []
        self.connections = 0

    def server_seconds(self) -> float:
        """Return the CPU time of all processes of the server."""
        return sum(cpu_seconds(pid) for pid in self.plan.pids)

    def redis_seconds(self) -> float:
        """Return the CPU time of the Valkey of the server, if it has one."""
        return cpu_seconds(self.plan.redis_pid) if self.plan.redis_pid else 0.0

    async def everywhere(self, orders: Sequence[Order]) -> Outcome:
        """Execute an order in each process, in this one first; return the sums of their figures."""
        first, *rest = orders
        outcomes = await asyncio.gather(
            getattr(self, first.action)(first),
            *(
                asyncio.to_thread(ask, other, order)
                for other, order in zip(self.others, rest, strict=True)
            ),
        )
        return {name: sum(each[name] for each in outcomes) for name in outcomes[0]}

    async def fill(self, order: Order) -> Outcome:
        """Connect rooms of this process until there are as many as ordered; return the number of connections."""
        connected = await connect_rooms(self.plan, range(len(self.rooms), order.rooms))
        self.rooms += connected
        return {"connections": sum(len(room.members) for room in connected)}

    async def grow(self, order: Order) -> Outcome:
        """Connect rooms until there are as many as ordered in all processes.

        Measure the CPU time per client that connects and, unless the plan is silent, gets a first message.
        """
        processes = 1 + len(self.others)
        servers = self.server_seconds()
        filled = await self.everywhere(
            [
                Order(action="fill", rooms=len(range(number, order.rooms, processes)))
                for number in range(processes)
            ]
        )
        servers = self.server_seconds() - servers
        self.connections += int(filled["connections"])
        return {"connect_us": servers / max(1, filled["connections"]) * 1e6}

    async def drive(self, order: Order) -> Outcome:
        """Let each room of this process send as fast as its members receive; return the deliveries.

        No message is in transit at the beginning and at the end.
        """
        delivered = -sum(room.received for room in self.rooms)
        payload_bytes = -sum(room.payload_bytes for room in self.rooms)
        own = time.process_time()
        for room in self.rooms:
            room.repeats = True
            room.complete()
        await asyncio.sleep(order.seconds)
        for room in self.rooms:
            room.repeats = False
        await wait_idle(self.rooms, ARRIVE_SECONDS)
        return {
            "deliveries": delivered + sum(room.received for room in self.rooms),
            "payload_bytes": payload_bytes + sum(room.payload_bytes for room in self.rooms),
            "client_seconds": time.process_time() - own,
        }

    async def burst(self, order: Order) -> Outcome:
        """Measure the CPU time per delivery while all rooms send as fast as their members receive."""
        started, servers = time.perf_counter(), self.server_seconds()
        redis = self.redis_seconds()
        each = dataclasses.replace(order, action="drive")
        driven = await self.everywhere([each] * (1 + len(self.others)))
        servers = self.server_seconds() - servers
        redis = self.redis_seconds() - redis
        seconds = time.perf_counter() - started
        delivered = driven["deliveries"]
        broadcasts = delivered / self.rooms[0].recipients
        outcome = {
            "cpu_us": servers / delivered * 1e6,
            "total_us": (servers + redis) / delivered * 1e6,
            "broadcast_us": servers / broadcasts * 1e6,
            "deliveries_per_second": delivered / seconds,
            "server_busy": servers / seconds,
            "client_busy": driven["client_seconds"] / seconds,
        }
        if self.plan.redis_pid:
            outcome["redis_us"] = redis / delivered * 1e6
            outcome["redis_broadcast_us"] = redis / broadcasts * 1e6
        if self.plan.offer:
            outcome["bytes"] = driven["payload_bytes"] / delivered
        return outcome

    async def settle(self) -> tuple[float, float]:
        """Wait until the server is idle; return its CPU time, and the share of a core that it takes when idle."""
        async with asyncio.timeout(ARRIVE_SECONDS):
            before, started, busy = self.server_seconds(), time.perf_counter(), 1.0
            while busy > IDLE_BUSY + IDLE_BUSY_PER_CONNECTION * self.connections:
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
        return {"kib": held / self.connections / 1024}

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


@contextmanager
def other_processes(plans: Sequence[Plan]) -> Iterator[list[Child]]:
    """Start the other processes of the load client, on its cores, and wait until they take orders."""
    with ExitStack() as stack:
        others = []
        for plan in plans:
            command = python("-m", "bench.load", json.dumps(dataclasses.asdict(plan)))
            child = start(f"the process {plan.name}", command, ROOT, environment())
            others.append(stack.enter_context(child))
        for other in others:
            other.read_line(ANSWER_SECONDS)
        yield others


async def run_plan(plan: Plan, others: Sequence[Child]) -> None:
    """Connect all clients, then execute orders."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    client = Client(plan.shares()[0], others)
    if not plan.gradual:
        await client.grow(Order(action="grow", rooms=len(plan.rooms)))
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
    plan = Plan(**json.loads(sys.argv[1]))
    with other_processes(plan.shares()[1:]) as others:
        uvloop.run(run_plan(plan, others))


if __name__ == "__main__":
    main()

"""Running workloads: start servers and load clients, and measure them in rotation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from .catalog import ROOT, Server, environment
from .child import Child, python, start
from .plan import Order, Outcome, Plan
from .workloads import Workload

START_SECONDS = 30
CONNECT_SECONDS = 90
ANSWER_SECONDS = 60
FILLER = "somebody says something, "


@dataclasses.dataclass(frozen=True, slots=True)
class Effort:
    """The size of a run.

    Attributes:
        starts: The number of starts of servers and clients.
        rounds: The number of measurements of each server per start.
        seconds: The duration of a measurement.
    """

    starts: int
    rounds: int
    seconds: float


# By server and round; rounds have the same index for all servers.
Outcomes = dict[str, list[Outcome]]


def run_workload(workload: Workload, servers: Sequence[Server], effort: Effort) -> Outcomes:
    """Measure a workload on its servers."""
    outcomes: Outcomes = {server.name: [] for server in servers}
    for _ in range(effort.starts * workload.starts):
        if workload.kind in ("memory", "stall"):
            for server in servers:
                with clients(workload, [server]) as started:
                    outcomes[server.name].append(measure(workload, started[server.name], effort))
            continue
        with clients(workload, servers) as started:
            for client in started.values():
                warm_up = Order(action="burst", seconds=effort.seconds)
                ask(client, warm_up)
            for _ in range(effort.rounds):
                for name, client in started.items():
                    outcomes[name].append(measure(workload, client, effort))
    return outcomes


@contextmanager
def clients(workload: Workload, servers: Sequence[Server]) -> Iterator[dict[str, Child]]:
    """Start servers and connect a load client to each; equal commands share a server."""
    with ExitStack() as stack:
        processes: dict[tuple[str, ...], Child] = {}
        for server in servers:
            if server.command not in processes:
                child = stack.enter_context(server.start(deflate=workload.deflate))
                processes[server.command] = child
        lines = {
            key: json.loads(child.read_line(START_SECONDS)) for key, child in processes.items()
        }
        if workload.kind == "trial":
            yield {server.name: processes[server.command] for server in servers}
            return
        started = {}
        for server in servers:
            address = lines[server.command]
            if isinstance(address, int):
                pids = [processes[server.command].pid]
                address = {"ports": [address], "pids": pids, "redis_pid": 0}
            plan = dataclasses.asdict(plan_for(workload, server, **address))
            command = python("-m", "bench.load", json.dumps(plan))
            name = f"the load client of {server.name}"
            client = stack.enter_context(start(name, command, ROOT, environment()))
            started[server.name] = client
        for client in started.values():
            client.read_line(CONNECT_SECONDS)
        yield started


def plan_for(
    workload: Workload, server: Server, ports: Sequence[int], pids: Sequence[int], redis_pid: int
) -> Plan:
    """Return the plan of the load client of a server."""
    size = workload.text_bytes - len(server.message) + len("TEXT")
    text = (FILLER * workload.text_bytes)[:size]
    return Plan(
        ports=tuple(ports),
        pids=tuple(pids),
        redis_pid=redis_pid,
        path=workload.path or server.path,
        dialect=server.dialect,
        message=server.message.replace("TEXT", text),
        room_members=workload.room_members,
        connections=workload.connections,
        in_flight=workload.in_flight,
        deflate=workload.deflate,
        silent=workload.kind == "memory",
    )


def measure(workload: Workload, client: Child, effort: Effort) -> Outcome:
    """Measure a server once."""
    seconds = effort.seconds * workload.seconds
    if workload.kind == "cpu":
        return ask(client, Order(action="burst", seconds=seconds))
    if workload.kind == "trial":
        return ask(client, Order(action="trial", seconds=seconds))
    if workload.kind == "paced":
        pace = workload.messages_per_second
        return ask(client, Order(action="paced", seconds=seconds, messages_per_second=pace))
    if workload.kind == "memory":
        return ask(client, Order(action="memory"))
    if workload.kind == "latency":
        maximum = ask(client, Order(action="burst", seconds=effort.seconds))
        pace = maximum["deliveries_per_second"] / workload.room_members / 2
        return ask(client, Order(action="paced", seconds=seconds, messages_per_second=pace))
    pace = workload.messages_per_second
    alone = ask(client, Order(action="paced", seconds=seconds, messages_per_second=pace))
    beside = ask(client, Order(action="stall", seconds=seconds, messages_per_second=pace))
    return beside | {
        "p99_alone_ms": alone["p99_ms"],
        "p99_ratio": beside["p99_ms"] / alone["p99_ms"],
    }


def ask(client: Child, order: Order) -> Outcome:
    """Send an order to a load client and wait for its outcome."""
    client.write_line(json.dumps(dataclasses.asdict(order)))
    outcome: Outcome = json.loads(client.read_line(order.seconds + ANSWER_SECONDS))
    return outcome

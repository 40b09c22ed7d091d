"""Carry out workloads: start servers and load clients, and ask all of them by turns."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from .child import Child, python, start
from .fleet import ROOT, Server, environment
from .plan import Order, Outcome, Plan
from .workloads import Workload

START_SECONDS = 30
CONNECT_SECONDS = 90
ANSWER_SECONDS = 60
WORDS = "somebody says something, "


@dataclasses.dataclass(frozen=True, slots=True)
class Effort:
    """How much is done.

    Attributes:
        starts: How often servers and clients are started anew.
        rounds: How often all are measured, one after the other, per start.
        seconds: How long a measurement is.
    """

    starts: int
    rounds: int
    seconds: float


# By server, one for each round; the same place in all lists is the same round.
Outcomes = dict[str, list[Outcome]]


def carry_out(workload: Workload, servers: Sequence[Server], effort: Effort) -> Outcomes:
    """Measure a workload on all servers that take part in it."""
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
    """Start servers and connect a load client to each; guests with the same command share one."""
    with ExitStack() as stack:
        processes: dict[tuple[str, ...], Child] = {}
        for server in servers:
            if server.command not in processes:
                child = stack.enter_context(server.start(deflate=workload.deflate))
                processes[server.command] = child
        lines = {key: json.loads(child.listen(START_SECONDS)) for key, child in processes.items()}
        if workload.kind == "trial":
            yield {server.name: processes[server.command] for server in servers}
            return
        started = {}
        for server in servers:
            said = lines[server.command]
            if isinstance(said, int):
                said = {"ports": [said], "pids": [processes[server.command].pid], "engine_pid": 0}
            plan = dataclasses.asdict(plan_for(workload, server, **said))
            command = python("-m", "bench.load", json.dumps(plan))
            name = f"the load client of {server.name}"
            client = stack.enter_context(start(name, command, ROOT, environment()))
            started[server.name] = client
        for client in started.values():
            client.listen(CONNECT_SECONDS)
        yield started


def plan_for(
    workload: Workload, server: Server, ports: Sequence[int], pids: Sequence[int], engine_pid: int
) -> Plan:
    """What the load client of a server is to do."""
    size = workload.text_bytes - len(server.message) + len("TEXT")
    text = (WORDS * workload.text_bytes)[:size]
    return Plan(
        ports=tuple(ports),
        pids=tuple(pids),
        engine_pid=engine_pid,
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
    """Measure one server once."""
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
        most = ask(client, Order(action="burst", seconds=effort.seconds))
        pace = most["deliveries_per_second"] / workload.room_members / 2
        return ask(client, Order(action="paced", seconds=seconds, messages_per_second=pace))
    pace = workload.messages_per_second
    alone = ask(client, Order(action="paced", seconds=seconds, messages_per_second=pace))
    beside = ask(client, Order(action="stall", seconds=seconds, messages_per_second=pace))
    return beside | {
        "p99_alone_ms": alone["p99_ms"],
        "p99_ratio": beside["p99_ms"] / alone["p99_ms"],
    }


def ask(client: Child, order: Order) -> Outcome:
    """Give an order to a load client and wait for what it finds."""
    client.tell(json.dumps(dataclasses.asdict(order)))
    outcome: Outcome = json.loads(client.listen(order.seconds + ANSWER_SECONDS))
    return outcome

"""Running workloads: start servers and load clients, and measure them in rotation."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from .catalog import Server
from .child import Child, python, start
from .cores import Cores
from .install import ROOT, environment
from .plan import CONNECT_SECONDS, RECENT_MESSAGES, Order, Outcome, Plan, ask
from .workload import Workload

START_SECONDS = 30
# A server that others have written may fail once in a run of an hour.
ATTEMPTS = 3
FILLER = "somebody says something, "
# With compression the messages differ: a compressor that remembers the last ones would send a few bytes for the same one.
VARIED_MESSAGES = 32
WORDS = """
    about after all and are as at back because before but by can come could day do even first for
    from get give go good have he how if in into it its just know like look make me more most my
    new no not now of on one only or other our out over people say see she so some take than that
    the their them then there these they think this time to two up us use want was way we well
    what when which who will with work would year you your
""".split()  # noqa: SIM905 - a list of strings has a line for each


@dataclasses.dataclass(frozen=True, slots=True)
class Effort:
    """The size of a run.

    Attributes:
        starts: The number of starts of servers and clients.
        rounds: The number of measurements of each server per start.
        seconds: The duration of a measurement.
        cores: Where processes run.
    """

    starts: int
    rounds: int
    seconds: float
    cores: Cores


# By server and number of a round: ratios are taken between servers of the same round.
Outcomes = dict[str, dict[int, Outcome]]
# The names of figures at a number of connections.
OF_STAGE = {"cpu_us": "cpu_{}_us", "kib": "kib_{}", "connect_us": "connect_{}_us"}


def run_workload(workload: Workload, servers: Sequence[Server], effort: Effort) -> Outcomes:
    """Measure a workload on its servers."""
    outcomes: Outcomes = {server.name: {} for server in servers}
    by_name = {server.name: server for server in servers}
    numbers = itertools.count()
    for _ in range(effort.starts * workload.starts):
        if workload.kind in ("memory", "stall"):
            rounds = [next(numbers)]
            for server in servers:
                add(outcomes, start_and_measure(workload, [server], rounds, effort))
            continue
        for group in workload.groups(list(by_name)):
            rounds = list(itertools.islice(numbers, effort.rounds))
            group_servers = [by_name[name] for name in group]
            add(outcomes, start_and_measure(workload, group_servers, rounds, effort))
    return outcomes


def add(outcomes: Outcomes, others: Outcomes) -> None:
    """Add the rounds of a start."""
    for name, rounds in others.items():
        outcomes[name] |= rounds


def start_and_measure(
    workload: Workload, servers: Sequence[Server], rounds: Sequence[int], effort: Effort
) -> Outcomes:
    """Start servers and measure them in rounds; repeat all of it if one of the processes fails.

    Raises:
        RuntimeError: One has failed at each attempt.
    """
    attempt = 1
    while True:
        try:
            with clients(workload, servers, effort.cores) as started:
                return measure_rounds(workload, started, rounds, effort)
        except RuntimeError as error:
            if attempt == ATTEMPTS:
                raise
            print(f"A start of {workload.name} is repeated: {error}", flush=True)
            attempt += 1


def measure_rounds(
    workload: Workload, started: Mapping[str, Child], rounds: Sequence[int], effort: Effort
) -> Outcomes:
    """Measure started servers in rounds, after the first measurement of a process, which takes longer."""
    if workload.kind == "scale":
        return measure_stages(workload, started, rounds, effort)
    for client in started.values():
        if workload.kind in ("cpu", "broadcast", "latency", "paced"):
            ask(client, Order(action="burst", seconds=effort.seconds))
        elif workload.kind == "connect":
            ask(client, Order(action="connect"))
    outcomes: Outcomes = {name: {} for name in started}
    for number in rounds:
        for name, client in started.items():
            outcomes[name][number] = measure(workload, client, effort)
    return outcomes


@contextmanager
def clients(
    workload: Workload, servers: Sequence[Server], cores: Cores
) -> Iterator[dict[str, Child]]:
    """Start servers and connect a load client to each; equal commands share a server."""
    with ExitStack() as stack:
        processes: dict[tuple[str, ...], Child] = {}
        for server in servers:
            if server.command not in processes:
                # A measurement without a load client has its own clients.
                taken = cores.cluster if server.is_cluster else cores.server
                child = server.start(
                    deflate=bool(workload.offer),
                    default_collector=workload.default_collector,
                    cores=() if workload.kind == "trial" else taken,
                )
                processes[server.command] = stack.enter_context(child)
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
            child = start(name, command, ROOT, environment(), cores.client)
            started[server.name] = stack.enter_context(child)
        for client in started.values():
            client.read_line(CONNECT_SECONDS)
        yield started


def plan_for(
    workload: Workload, server: Server, ports: Sequence[int], pids: Sequence[int], redis_pid: int
) -> Plan:
    """Return the plan of the load client of a server."""
    text_bytes = workload.text_bytes - len(server.message) + len("TEXT")
    return Plan(
        name=server.name,
        ports=tuple(ports),
        address="127.0.0.1",
        pids=tuple(pids),
        redis_pid=redis_pid,
        path=workload.path or server.path,
        dialect=server.dialect,
        messages=tuple(
            server.message.replace("TEXT", text)
            for text in texts(text_bytes, varied=bool(workload.offer))
        ),
        rooms=workload.rooms(),
        excludes_sender=server.excludes_sender,
        query="?quiet=1" if workload.kind == "join" else "",
        recent=RECENT_MESSAGES if workload.kind == "join" else 0,
        visitors=workload.visitors,
        in_flight=workload.in_flight,
        offer=workload.offer,
        accepted=workload.accepted,
        silent=workload.kind == "memory",
        gradual=workload.kind == "scale",
        processes=workload.processes,
    )


def texts(size: int, *, varied: bool) -> list[str]:
    """Return one text of this size, or several that differ, the same in each run."""
    if not varied:
        return [(FILLER * size)[:size]]
    chance = random.Random(size)
    return [" ".join(chance.choices(WORDS, k=size))[:size] for _ in range(VARIED_MESSAGES)]


def measure_stages(
    workload: Workload, started: Mapping[str, Child], numbers: Sequence[int], effort: Effort
) -> Outcomes:
    """Measure all servers at each number of connections, and the growth of the figures from the first to the last.

    A server is the same process at all of them, so the growth does not depend on its memory layout.
    """
    outcomes: Outcomes = {name: {number: {} for number in numbers} for name in started}
    burst = Order(action="burst", seconds=effort.seconds * workload.seconds)
    for stage in workload.stages:
        grow = Order(action="grow", rooms=stage // workload.room_members)
        for name, client in started.items():
            connect_us = ask(client, grow)["connect_us"]
            kib = ask(client, Order(action="memory"))["kib"]
            for outcome in outcomes[name].values():
                outcome |= {"connect_us": connect_us, "kib": kib}
            # The first measurement takes longer.
            ask(client, burst)
        for number in numbers:
            for name, client in started.items():
                outcome = outcomes[name][number]
                outcome |= ask(client, burst)
                outcome |= {form.format(stage): outcome[each] for each, form in OF_STAGE.items()}
    first, last = workload.stages[0], workload.stages[-1]
    for outcome in itertools.chain.from_iterable(rounds.values() for rounds in outcomes.values()):
        outcome["cpu_growth"] = outcome[f"cpu_{last}_us"] / outcome[f"cpu_{first}_us"]
        outcome["kib_growth"] = outcome[f"kib_{last}"] / outcome[f"kib_{first}"]
    return outcomes


def at_stage(outcomes: Outcomes, stage: int) -> Outcomes:
    """Return the figures at a number of connections, under the names that they have in other workloads."""
    return {
        server: {
            number: {name: outcome[of_stage.format(stage)] for name, of_stage in OF_STAGE.items()}
            for number, outcome in rounds.items()
        }
        for server, rounds in outcomes.items()
    }


def measure(workload: Workload, client: Child, effort: Effort) -> Outcome:
    """Measure a server once."""
    seconds = effort.seconds * workload.seconds
    if workload.kind in ("cpu", "broadcast"):
        return ask(client, Order(action="burst", seconds=seconds))
    if workload.kind in ("connect", "join", "memory", "trial"):
        return ask(client, Order(action=workload.kind, seconds=seconds))
    if workload.kind == "paced":
        pace = workload.messages_per_second
        return ask(client, Order(action="paced", seconds=seconds, messages_per_second=pace))
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

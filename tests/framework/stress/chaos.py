"""Chaos test: simulated users on three nodes over Redis, while faults are injected; no invariant may break.

python -m tests.framework.stress.chaos --seconds 180 --seed 1

A seed repeats the faults and the users' decisions. Violations are printed with the part of the record that shows
them, and the process exits with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.publisher import AsyncPublisher

from ..support.redis_servers import PROGRAMS, VALKEY
from .chaos_checks import Checks
from .chaos_program import PREFIX
from .cluster import Cluster, Fault, running_cluster
from .deployment import MODES, deployed
from .events import Listed, Positioned, Received
from .faults import inject, plan
from .invariants import check
from .node_process import HANDSHAKES_PER_SECOND, ChaosTiming, now, wait_until
from .record import Publish, Record, Violation
from .simulated_users import SimulatedUser, Simulation

CLIENTS = 120
CLIENTS_PER_ROOM = 8
PUBLISHERS = 2
THREADS = 64
BURST_MESSAGES = 40
# Above the size of the reply buffer that Redis does not count.
FILLER_BYTES = 40_000
EMPTY_ROOMS = 5
# All kinds of faults fit into a round.
ROUND_SECONDS = 60.0
RECOVERED = {None: "positioned", True: "recovered", False: "not recovered"}
# The events that each run must contain.
REQUIRED_EVENTS = ("recovered", "joined", "left", "members", "accepted", "refused")
SHOWN_PER_KIND = 2


class Chaos:
    """One run.

    Attributes:
        violations: The violations found so far.
    """

    def __init__(self, cluster: Cluster, program: str, seed: int, clients: int) -> None:
        self.cluster = cluster
        self.program = program
        self.seed = seed
        timing = cluster.timing
        self.record = Record(
            pages=cluster.pages,
            faults=cluster.injected,
            commands=cluster.commands,
            history_messages=timing.history_messages,
            history_seconds=timing.history_seconds,
            grace_seconds=timing.grace_seconds,
            expiry_seconds=timing.expiry_seconds,
        )
        ports = [node.port for node in cluster.nodes]
        rooms = max(2, clients // CLIENTS_PER_ROOM)
        self.simulation = Simulation(seed, ports, rooms, self.record)
        self.users = [SimulatedUser(self.simulation, number) for number in range(clients)]
        self.checks = Checks(cluster, self.users, self.record)
        self.violations = self.checks.violations
        self.published = 0
        cluster.targets = self.checks.targets
        cluster.publish = self.publish

    async def run(self, seconds: float) -> None:
        """Run rounds of faults with a calm phase after each, and let all users leave at the end."""
        await wait_until(self.checks.is_served, "all nodes serve")
        fresh = await self.checks.statistics()
        rng = random.Random(f"faults of {self.seed}")
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(user.live()) for user in self.users]
            try:
                rounds = max(1, round(seconds / ROUND_SECONDS))
                for _ in range(rounds):
                    self.simulation.enter("busy")
                    await self.run_round(plan(rng, seconds / rounds, self.program))
                    self.simulation.enter("calm")
                    self.cluster.log("calm")
                    await self.check_calm()
                self.simulation.enter("over")
                with self.checks.recording_timeout("I5"):
                    await wait_until(self.checks.have_all_left, "all users have left")
                await self.checks.check_idle(fresh)
                await self.checks.check_keys()
            finally:
                for life in lives:
                    life.cancel()

    async def run_round(self, faults: list[Fault]) -> None:
        """Inject faults, and publish from outside meanwhile."""
        started_at = now()
        async with asyncio.TaskGroup() as group:
            publishing = [
                group.create_task(self.publish_repeatedly(number)) for number in range(PUBLISHERS)
            ]
            async with asyncio.TaskGroup() as injecting:
                for fault in faults:
                    injecting.create_task(self.inject(fault, started_at))
            for task in publishing:
                task.cancel()

    async def inject(self, fault: Fault, started_at: float) -> None:
        """Inject a fault at its time."""
        await asyncio.sleep(started_at + fault.at - now())
        self.cluster.log(f"{fault.kind}, node {fault.node}, {fault.seconds:.1f} s")
        await inject(self.cluster, fault)

    async def publish_repeatedly(self, number: int) -> None:
        """Publish from outside, to rooms with and without members, sometimes in bursts."""
        rng = random.Random(f"publisher {number} of {self.seed}")
        while True:
            try:
                async with self.publisher() as publisher:
                    await self.publish_with(publisher, f"outside-{number}", rng)
            except BackendUnavailable:  # at the start
                await asyncio.sleep(0.1)

    async def publish_with(
        self, publisher: AsyncPublisher, sender: str, rng: random.Random
    ) -> None:
        while True:
            await asyncio.sleep(rng.uniform(0.02, 0.3))
            if rng.random() < 0.1:
                room = f"room-{10**6 + rng.randrange(EMPTY_ROOMS)}"
            else:
                room = rng.choice(self.rooms_in_use() or ["room-0"])
            count = BURST_MESSAGES if rng.random() < 0.05 else 1
            filler = "x" * FILLER_BYTES if self.cluster.has_small_buffers else ""
            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(self.publish(publisher, sender, room, filler))

    def publisher(self) -> AsyncPublisher:
        return AsyncPublisher(self.cluster.publisher_url, prefix=PREFIX)

    async def publish(
        self, publisher: AsyncPublisher, sender: str, room: str, filler: str = ""
    ) -> str:
        """Publish a message from outside; return the outcome."""
        self.published += 1
        key = f"{sender}#{self.published}"
        payload = {"key": key, "room": room, "sender": sender, "user": "", "exclude": ""}
        started_at, outcome = now(), "cut off"
        try:
            message = {"type": "message", "payload": payload | {"filler": filler}}
            await publisher.broadcast_to_room(room, message)
            outcome = "accepted"
        except BackendUnavailable:
            outcome = "refused"
        except Exception as error:
            outcome = "refused"
            sentence = f"publishing from outside raised {error!r}"
            self.violations.append(Violation("I3", sentence))
        finally:
            ended_at = now()
            filled = len(filler)
            self.record.publishes.append(
                Publish(key, room, sender, "", "", False, started_at, ended_at, outcome, filled)
            )
        return outcome

    async def check_calm(self) -> None:
        """Wait until all users are connected, check, publish in each room, and check that."""
        await self.checks.wait_calm()
        await self.checks.check_presence()
        await self.publish_everywhere()
        await self.checks.check_command()
        await self.checks.check_keys()

    async def publish_everywhere(self) -> None:
        """Publish from all users, then from outside; all members must receive it."""
        publishers = [user for user in self.users if user.browser and user.socket]
        outcomes = await asyncio.gather(
            *(user.browser.publish(user.socket, "") for user in publishers)  # type: ignore[union-attr, arg-type]
        )
        self.checks.check_outcomes(outcomes, "from pages")
        async with self.publisher() as publisher:
            rooms = self.rooms_in_use()
            outcomes = [await self.publish(publisher, "outside-last", room) for room in rooms]
            last = {publish.room: publish.key for publish in self.record.publishes[-len(rooms) :]}
        self.checks.check_outcomes(outcomes, "from outside")
        await self.checks.check_received(last)

    def rooms_in_use(self) -> list[str]:
        return sorted(self.checks.present())


async def run(program: str, mode: str, seconds: float, seed: int, clients: int) -> list[Violation]:
    """Run from the first start to the last stop; return the violations."""
    # Calls to nodes and servers that are frozen each block a thread.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    # A node inherits it: a signal for its stacks does not end one that has just started.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with deployed(mode, program) as deployment:
        async with running_cluster(deployment, ChaosTiming()) as cluster:
            chaos = Chaos(cluster, program, seed, clients)
            await chaos.run(seconds)
            cluster.log("checking")
        found = chaos.violations + check(chaos.record)
    found += [Violation("I0", sentence) for sentence in cluster.errors]
    counts = count_events(chaos.record)
    print(f"{len(chaos.record.pages)} pages: {dict(counts)}")
    print(f"{len(cluster.injected)} faults: {dict(Counter(f.kind for f in cluster.injected))}")
    print(f"commands: {dict(Counter(command.outcome for command in cluster.commands))}")
    found += [
        Violation("I0", f"no event '{kind}': the run is inconclusive")
        for kind in REQUIRED_EVENTS
        if not counts[kind]
    ]
    return found


def count_events(record: Record) -> Counter[str]:
    """Count the events of each kind."""
    counts: Counter[str] = Counter()
    for page in record.pages:
        for event in page.events:
            if isinstance(event, Positioned):
                counts[RECOVERED[event.recovered]] += 1
            elif isinstance(event, Listed):
                counts["partial members" if event.is_partial else "members"] += 1
            elif isinstance(event, Received):
                counts[event.type] += 1
            else:
                counts[type(event).__name__.lower()] += 1
    counts.update(publish.outcome for publish in record.publishes)
    return counts


def describe(found: list[Violation], seed: int) -> str:
    """Format violations: some of each kind."""
    kinds: dict[tuple[str, ...], list[Violation]] = {}
    for violation in found:
        words = re.sub(r"\S*\d\S*", "", violation.sentence).split()[:6]
        kinds.setdefault((violation.invariant, *words), []).append(violation)
    shown = [
        "\n\n".join([*map(str, similar[:SHOWN_PER_KIND]), f"({len(similar)} like this)"])
        for similar in kinds.values()
    ]
    return "\n\n".join([*shown, f"--seed {seed}: {len(found)} violations"])


def main() -> None:
    """Run, and exit with a description of all violations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--program", choices=PROGRAMS, default=VALKEY)
    parser.add_argument("--mode", choices=MODES, default="single")
    options: Any = parser.parse_args()
    print(
        f"chaos for {options.seconds:g} seconds with --seed {options.seed}, {options.mode} {options.program};"
        f" {HANDSHAKES_PER_SECOND} handshakes per second and address",
        flush=True,
    )
    words = (options.program, options.mode, options.seconds, options.seed, options.clients)
    if found := asyncio.run(run(*words)):
        sys.exit(describe(found, options.seed))
    print(f"--seed {options.seed}: no violations")


if __name__ == "__main__":
    main()

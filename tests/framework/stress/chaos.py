"""Chaos test: simulated users on three nodes over one Redis, while faults are injected; no invariant may break.

python -m tests.framework.stress.chaos --minutes 5 --seed 1

A seed repeats the faults and the users' decisions. Violations are printed with the part of the record that shows
them, and the process exits with status 1.
"""

import argparse
import asyncio
import contextlib
import random
import re
import signal
import sys
from collections import Counter
from typing import Any

import redis

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.publisher import AsyncPublisher

from ..support.redis_servers import PROGRAMS, VALKEY, running_redis
from .chaos_program import PREFIX
from .cluster import (
    HANDSHAKES_PER_SECOND,
    ChaosTiming,
    Cluster,
    Fault,
    now,
    plan,
    running_cluster,
    wait_until,
)
from .invariants import (
    Positioned,
    Publish,
    Received,
    Record,
    Violation,
    check,
    excerpt,
    wrong_last_edges,
    wrong_members,
)
from .simulated_users import SimulatedUser, Simulation

CLIENTS = 300
CLIENTS_PER_ROOM = 8
PUBLISHERS = 2
BURST_MESSAGES = 40
# Above the size of the reply buffer that Redis does not count.
FILLER_BYTES = 40_000
EMPTY_ROOMS = 5
ROUND_SECONDS = 40.0
# A room without nodes, and what it keeps for disconnected ones, expires by itself in this time.
LEFTOVER_SECONDS = 120.0
RECOVERED = {None: "positioned", True: "recovered", False: "not recovered"}
SHOWN_KEYS = 10
# The events that each run must contain.
REQUIRED_EVENTS = ("recovered", "joined", "left", "accepted", "refused")
SHOWN_PER_KIND = 2
# The time in which the nodes recover from a data loss of Redis or from a restart.
CALM_SECONDS = 10.0


class Chaos:
    """One run.

    Attributes:
        violations: The violations found so far.
    """

    def __init__(self, cluster: Cluster, seed: int, clients: int) -> None:
        self.cluster = cluster
        self.seed = seed
        timing = cluster.timing
        self.record = Record(
            pages=[],
            faults=cluster.injected,
            history_messages=timing.history_messages,
            history_seconds=timing.history_seconds,
            grace_seconds=timing.grace_seconds,
            expiry_seconds=timing.expiry_seconds,
        )
        ports = [node.port for node in cluster.nodes]
        rooms = max(2, clients // CLIENTS_PER_ROOM)
        self.simulation = Simulation(seed, ports, rooms, self.record)
        self.users = [SimulatedUser(self.simulation, number) for number in range(clients)]
        self.violations: list[Violation] = []
        self.published = 0

    async def run(self, seconds: float) -> None:
        """Run rounds of faults with a calm phase after each, and let all users leave at the end."""
        fresh = await self.statistics()
        # NOTE: the index of histories lists streams until they have expired.
        index = {f"{PREFIX}:{{%nodes}}:{name}" for name in ("h", "hb", "hx")}
        idle = shapes(await asyncio.to_thread(self.keys)) | index
        rng = random.Random(f"faults of {self.seed}")
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(user.live()) for user in self.users]
            try:
                rounds = max(1, round(seconds / ROUND_SECONDS))
                for _ in range(rounds):
                    self.simulation.enter("busy")
                    await self.run_round(plan(rng, seconds / rounds))
                    self.simulation.enter("calm")
                    await self.check_calm()
                self.simulation.enter("over")
                async with self.recording_timeout("I5"):
                    await wait_until(self.have_all_left, "all users have left")
                await self.check_idle(fresh, idle)
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
        self.log(f"{fault.kind}, node {fault.node}, {fault.seconds:.1f} s")
        await self.cluster.inject(fault)

    async def publish_repeatedly(self, number: int) -> None:
        """Publish from outside, to rooms with and without members, sometimes in bursts."""
        rng = random.Random(f"publisher {number} of {self.seed}")
        async with self.publisher() as publisher:
            while True:
                await asyncio.sleep(rng.uniform(0.02, 0.3))
                rooms = self.rooms_in_use() or ["room-0"]
                if rng.random() < 0.1:
                    room = f"room-{10**6 + rng.randrange(EMPTY_ROOMS)}"
                else:
                    room = rng.choice(rooms)
                count, filler = (BURST_MESSAGES, "") if rng.random() < 0.05 else (1, "")
                if self.cluster.has_small_buffers:
                    filler = "x" * FILLER_BYTES
                async with asyncio.TaskGroup() as group:
                    for _ in range(count):
                        group.create_task(
                            self.publish(publisher, f"outside-{number}", room, filler)
                        )

    def publisher(self) -> AsyncPublisher:
        return AsyncPublisher(self.cluster.server.url, prefix=PREFIX)

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
            self.record.publishes.append(
                Publish(key, room, sender, "", "", False, started_at, ended_at, outcome)
            )
        return outcome

    async def check_calm(self) -> None:
        """Wait until all users are connected, publish in each room, and check."""
        try:
            await wait_until(self.is_served, "Redis is available on all nodes")
        except TimeoutError as error:
            reasons = [
                f"{number}: {answer}" for number, answer in (await self.statistics()).items()
            ]
            for node in self.cluster.nodes:
                node.send_signal(signal.SIGUSR1)  # prints the stacks of their tasks
            await asyncio.sleep(1.0)
            logs = [node.read_log() for node in self.cluster.nodes]
            logs.append(self.cluster.server.read_log())
            self.violations.append(Violation("I5", str(error), (*reasons, *logs)))
        try:
            await wait_until(self.is_calm, "all users are in their rooms")
        except TimeoutError as error:
            lost = [user.browser.page for user in self.unsettled_users() if user.browser]
            sentence = f"{error}, but not {[page.name for page in lost]}"
            shown = [line for page in lost[:2] for line in excerpt(page, len(page.events))]
            self.violations.append(Violation("I5", sentence, tuple(shown)))
        async with self.recording_timeout("I3"):
            await self.publish_everywhere()
        present = self.present()
        reported: dict[int, Any] = {}

        async def members_known() -> bool:
            for node in self.cluster.nodes:
                reported[node.number] = await node.get("/presence") or {}
            return not wrong_members(present, reported)

        with contextlib.suppress(TimeoutError):
            await wait_until(members_known, "members", CALM_SECONDS)
        self.violations += wrong_members(present, reported)
        await self.check_keys(present)
        self.check_last_edges(present)

    async def publish_everywhere(self) -> None:
        """Publish from all users, then from outside; all members must receive it."""
        publishers = [user for user in self.users if user.browser and user.socket]
        outcomes = await asyncio.gather(
            *(user.browser.publish(user.socket, "") for user in publishers)  # type: ignore[union-attr, arg-type]
        )
        if refused := Counter(outcomes) - Counter({"accepted": len(outcomes)}):
            self.violations.append(
                Violation("I3", f"outcomes of publishes in a calm phase: {refused}")
            )
        async with self.publisher() as publisher:
            rooms = self.rooms_in_use()
            outcomes = [await self.publish(publisher, "outside-last", room) for room in rooms]
            last = {publish.room: publish.key for publish in self.record.publishes[-len(rooms) :]}
        if set(outcomes) - {"accepted"}:
            self.violations.append(
                Violation(
                    "I3", f"outcomes of publishes from outside in a calm phase: {Counter(outcomes)}"
                )
            )
        missing: list[str] = []

        async def all_received() -> bool:
            missing[:] = [
                f"{browser.page.name} in {room}"
                for user in self.users
                if (browser := user.browser) is not None
                for room in browser.page.rooms
                if last[room] not in browser.keys_seen
            ]
            return not missing

        try:
            await wait_until(all_received, "all pages receive the last messages", CALM_SECONDS)
        except TimeoutError:
            sentence = f"{len(missing)} pages lack messages in a calm phase: {missing[:20]}"
            self.violations.append(Violation("I1", sentence))

    async def check_keys(self, present: dict[str, set[str]]) -> None:
        """Wait until Redis has keys of rooms in use only."""
        others: set[str] = set()

        async def no_others() -> bool:
            keys = await asyncio.to_thread(self.keys)
            rooms = {key: re.search(r"room-\d+", key) for key in keys}
            others.clear()
            others.update(key for key, room in rooms.items() if room and room[0] not in present)
            return not others

        # Empty rooms keep their history for its time.
        seconds = self.cluster.timing.history_seconds + CALM_SECONDS
        with contextlib.suppress(TimeoutError):
            await wait_until(no_others, "keys", seconds)
        if others:
            sentence = f"Redis has {len(others)} keys of empty rooms"
            self.violations.append(Violation("I4", sentence, tuple(sorted(others)[:20])))

    def check_last_edges(self, present: dict[str, set[str]]) -> None:
        """Check that all users received the last join and leave of the others."""
        pages = [user.browser.page for user in self.users if user.browser]
        self.violations += wrong_last_edges(pages, self.record, present)

    async def check_idle(self, fresh: dict[int, Any], idle: set[str]) -> None:
        """Wait until nothing remains of users who have left."""
        left: list[str] = []

        async def nothing_left() -> bool:
            left[:] = sorted(shapes(await asyncio.to_thread(self.keys)) - idle)
            statistics = await self.statistics()
            for node, had in fresh.items():
                has = statistics[node] or {"connections": "?", "tasks": 10**6}
                if has["connections"] or has["tasks"] > had["tasks"]:
                    left.append(f"node {node} has {has}, and had {had} at the start")
            return not left

        seconds = self.cluster.timing.history_seconds + CALM_SECONDS
        with contextlib.suppress(TimeoutError):
            await wait_until(nothing_left, "idle", seconds)
        if left:
            sentence = f"{len(left)} things remain although all users have left"
            shown = await asyncio.to_thread(self.format_keys, await asyncio.to_thread(self.keys))
            self.violations.append(Violation("I4", sentence, (*left[:20], *shown)))

    def format_keys(self, keys: list[str]) -> list[str]:
        """Format the content of some keys."""
        readers = {b"hash": "HGETALL", b"set": "SMEMBERS", b"string": "GET"}
        shown = []
        with redis.Redis.from_url(self.cluster.server.url) as client:
            for key in keys[:SHOWN_KEYS]:
                reader = readers.get(client.execute_command("TYPE", key))
                content = client.execute_command(reader, key) if reader else "..."
                shown.append(f"{key}, {client.pttl(key)} ms: {content}")
        return shown

    async def is_served(self) -> bool:
        statistics = await self.statistics()
        return all(one is not None and not one["outage"] for one in statistics.values())

    async def is_calm(self) -> bool:
        return not self.unsettled_users()

    async def have_all_left(self) -> bool:
        return all(user.over for user in self.users)

    def unsettled_users(self) -> list[SimulatedUser]:
        """Return the users that are neither absent nor positioned in their rooms."""
        return [user for user in self.users if not user.idle]

    def present(self) -> dict[str, set[str]]:
        """Return the users in each room, from their own point of view."""
        rooms: dict[str, set[str]] = {}
        for user in self.users:
            if user.browser is not None:
                for room in user.browser.page.rooms:
                    rooms.setdefault(room, set()).add(user.browser.page.user)
        return rooms

    def rooms_in_use(self) -> list[str]:
        return sorted(self.present())

    def keys(self) -> list[str]:
        """Return the keys that will not expire soon."""
        with self.cluster.server.connect() as client:
            names = self.cluster.server.keys(f"{PREFIX}:*")
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.pttl(name)
            lives = zip(names, pipeline.execute(), strict=True)
        # -2 means expired, -1 without expiry.
        return [name for name, ms in lives if ms == -1 or ms > LEFTOVER_SECONDS * 1000]

    async def statistics(self) -> dict[int, Any]:
        nodes = self.cluster.nodes
        answers = await asyncio.gather(*(node.get("/statistics") for node in nodes))
        return {node.number: answer for node, answer in zip(nodes, answers, strict=True)}

    @contextlib.asynccontextmanager
    async def recording_timeout(self, invariant: str) -> Any:
        """Record a timeout as a violation."""
        try:
            yield
        except TimeoutError as error:
            self.violations.append(Violation(invariant, str(error)))

    def log(self, text: str) -> None:
        print(f"{now():7.2f} {text}", flush=True)


def shapes(keys: list[str]) -> set[str]:
    """Return the names of keys without the parts that differ between the lives of a node."""
    return {re.sub(r"[0-9a-f]{8,}", "*", key) for key in keys}


async def run(program: str, seconds: float, seed: int, clients: int) -> list[Violation]:
    """Run from the first start to the last stop; return the violations."""
    with running_redis(program) as server:
        async with running_cluster(server, ChaosTiming()) as cluster:
            chaos = Chaos(cluster, seed, clients)
            await chaos.run(seconds)
            chaos.log("checking")
        found = chaos.violations + check(chaos.record)
    found += [Violation("I0", sentence) for sentence in cluster.errors]
    counts = count_events(chaos.record)
    print(f"{len(chaos.record.pages)} pages: {dict(counts)}")
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
            else:
                counts[
                    event.type if isinstance(event, Received) else type(event).__name__.lower()
                ] += 1
    counts.update(publish.outcome for publish in record.publishes)
    return counts


def main() -> None:
    """Run, and exit with a description of all violations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--program", choices=PROGRAMS, default=VALKEY)
    options: Any = parser.parse_args()
    print(
        f"chaos for {options.minutes:g} minutes with --seed {options.seed};"
        f" {HANDSHAKES_PER_SECOND} handshakes per second and address",
        flush=True,
    )
    seconds = options.minutes * 60
    found = asyncio.run(run(options.program, seconds, options.seed, options.clients))
    if found:
        kinds: dict[tuple[str, ...], list[Violation]] = {}
        for violation in found:
            words = re.sub(r"\S*\d\S*", "", violation.sentence).split()[:6]
            kinds.setdefault((violation.invariant, *words), []).append(violation)
        shown = [
            "\n\n".join([*map(str, similar[:SHOWN_PER_KIND]), f"({len(similar)} like this)"])
            for similar in kinds.values()
        ]
        sys.exit("\n\n".join([*shown, f"--seed {options.seed}: {len(found)} violations"]))
    print(f"--seed {options.seed}: no violations")


if __name__ == "__main__":
    main()

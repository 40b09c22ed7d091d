"""Let people use three nodes over one engine while all that can break breaks; then nothing may be wrong.

python -m tests.falcon_pachinko.chaos --minutes 5 --seed 1

The seed gives the same faults and the same decisions again. What is wrong is printed with the part of the
record that shows it, and the process ends with status 1.
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

from ..support.cluster import Cluster, Fault, Patience, now, plan, running_cluster, wait_until
from ..support.redis_servers import ENGINES, VALKEY, running_engine
from .chaos_program import PREFIX
from .crowd import Person, World
from .invariants import (
    Got,
    Positioned,
    Publish,
    Record,
    Violation,
    check,
    excerpt,
    wrong_last_edges,
    wrong_members,
)

CLIENTS = 300
CLIENTS_PER_ROOM = 8
PUBLISHERS = 2
BURST_MESSAGES = 40
# Above what the engine keeps for a client without counting it.
FILLER_BYTES = 40_000
EMPTY_ROOMS = 5
ROUND_SECONDS = 40.0
# What a room keeps for nodes that were cut off expires by itself in this time.
LEFTOVER_SECONDS = 60.0
RECOVERED = {None: "placed", True: "recovered", False: "not recovered"}
SHOWN_KEYS = 10
# What a run has to have seen.
SHOWN = ("recovered", "joined", "left", "accepted", "refused")
SHOWN_ALIKE = 2
# An engine that is empty for a moment, or a node that has just come back, is made up for in this time.
CALM_SECONDS = 10.0


class Chaos:
    """One run.

    Attributes:
        violations: What is wrong.
    """

    def __init__(self, cluster: Cluster, seed: int, clients: int) -> None:
        self.cluster = cluster
        self.seed = seed
        patience = cluster.patience
        self.record = Record(
            pages=[],
            troubles=cluster.troubles,
            history_messages=patience.history_messages,
            history_seconds=patience.history_seconds,
            grace_seconds=patience.grace_seconds,
            expiry_seconds=patience.expiry_seconds,
        )
        ports = [node.port for node in cluster.nodes]
        rooms = max(2, clients // CLIENTS_PER_ROOM)
        self.world = World(seed, ports, rooms, self.record)
        self.people = [Person(self.world, number) for number in range(clients)]
        self.violations: list[Violation] = []
        self.said = 0

    async def run(self, seconds: float) -> None:
        """Make rounds of faults with a calm after each, and let everybody go at the end."""
        fresh = await self.numbers()
        idle = shapes(await asyncio.to_thread(self.keys))
        dice = random.Random(f"faults of {self.seed}")
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(person.live()) for person in self.people]
            try:
                rounds = max(1, round(seconds / ROUND_SECONDS))
                for _ in range(rounds):
                    self.world.enter("busy")
                    await self.make_round(plan(dice, seconds / rounds))
                    self.world.enter("calm")
                    await self.settle()
                self.world.enter("over")
                async with self.watching("I5"):
                    await wait_until(self.is_over, "all people have gone")
                await self.see_idle(fresh, idle)
            finally:
                for life in lives:
                    life.cancel()

    async def make_round(self, faults: list[Fault]) -> None:
        """Make faults, and publish from outside meanwhile."""
        begun = now()
        async with asyncio.TaskGroup() as group:
            speaking = [group.create_task(self.speak(number)) for number in range(PUBLISHERS)]
            async with asyncio.TaskGroup() as harm:
                for fault in faults:
                    harm.create_task(self.harm(fault, begun))
            for task in speaking:
                task.cancel()

    async def harm(self, fault: Fault, begun: float) -> None:
        """Make one fault when its time has come."""
        await asyncio.sleep(begun + fault.at - now())
        self.tell(f"{fault.kind}, node {fault.node}, {fault.seconds:.1f} s")
        await self.cluster.make(fault)

    async def speak(self, number: int) -> None:
        """Publish from outside, to rooms with and without people in them, now and then much at once."""
        dice = random.Random(f"publisher {number} of {self.seed}")
        async with self.publisher() as publisher:
            while True:
                await asyncio.sleep(dice.uniform(0.02, 0.3))
                rooms = self.living_rooms() or ["room-0"]
                if dice.random() < 0.1:
                    room = f"room-{10**6 + dice.randrange(EMPTY_ROOMS)}"
                else:
                    room = dice.choice(rooms)
                count, filler = (BURST_MESSAGES, "") if dice.random() < 0.05 else (1, "")
                if self.cluster.narrow:
                    filler = "x" * FILLER_BYTES
                async with asyncio.TaskGroup() as group:
                    for _ in range(count):
                        group.create_task(
                            self.publish(publisher, f"outside-{number}", room, filler)
                        )

    def publisher(self) -> AsyncPublisher:
        return AsyncPublisher(self.cluster.engine.url, prefix=PREFIX)

    async def publish(
        self, publisher: AsyncPublisher, who: str, room: str, filler: str = ""
    ) -> str:
        """Say something from outside; the outcome."""
        self.said += 1
        key = f"{who}#{self.said}"
        payload = {"key": key, "room": room, "who": who, "user": "", "without": ""}
        begun, outcome = now(), "cut off"
        try:
            message = {"type": "said", "payload": payload | {"filler": filler}}
            await publisher.broadcast_to_room(room, message)
            outcome = "accepted"
        except BackendUnavailable:
            outcome = "refused"
        except Exception as error:
            outcome = "refused"
            sentence = f"publishing from outside raised {error!r}"
            self.violations.append(Violation("I3", sentence))
        finally:
            ended = now()
            self.record.publishes.append(
                Publish(key, room, who, "", "", False, begun, ended, outcome)
            )
        return outcome

    async def settle(self) -> None:
        """Wait until everybody is there again, speak once in each room, and look."""
        try:
            await wait_until(self.is_served, "all nodes say that the engine is there")
        except TimeoutError as error:
            reasons = [f"{number}: {said}" for number, said in (await self.numbers()).items()]
            for node in self.cluster.nodes:
                node.send(signal.SIGUSR1)  # they say where they hang
            await asyncio.sleep(1.0)
            logs = [node.read_log() for node in self.cluster.nodes]
            logs.append(self.cluster.engine.read_log())
            self.violations.append(Violation("I5", str(error), (*reasons, *logs)))
        try:
            await wait_until(self.is_calm, "all people are in their rooms")
        except TimeoutError as error:
            lost = [person.browser.page for person in self.restless() if person.browser]
            sentence = f"{error}, but not {[page.name for page in lost]}"
            shown = [line for page in lost[:2] for line in excerpt(page, len(page.events))]
            self.violations.append(Violation("I5", sentence, tuple(shown)))
        async with self.watching("I3"):
            await self.say_all()
        living = self.living()
        told: dict[int, Any] = {}

        async def members_known() -> bool:
            for node in self.cluster.nodes:
                told[node.number] = await node.ask("/presence") or {}
            return not wrong_members(living, told)

        with contextlib.suppress(TimeoutError):
            await wait_until(members_known, "members", CALM_SECONDS)
        self.violations += wrong_members(living, told)
        await self.see_keys(living)
        self.see_farewells(living)

    async def say_all(self) -> None:
        """Let everybody who is there speak, then one from outside; all in the room have to hear it."""
        speakers = [person for person in self.people if person.browser and person.socket]
        outcomes = await asyncio.gather(
            *(person.browser.say(person.socket, "") for person in speakers)  # type: ignore[union-attr, arg-type]
        )
        if refused := Counter(outcomes) - Counter({"accepted": len(outcomes)}):
            self.violations.append(Violation("I3", f"of what was said in a calm were {refused}"))
        async with self.publisher() as publisher:
            rooms = self.living_rooms()
            outcomes = [await self.publish(publisher, "outside-last", room) for room in rooms]
            last = {publish.room: publish.key for publish in self.record.publishes[-len(rooms) :]}
        if set(outcomes) - {"accepted"}:
            self.violations.append(Violation("I3", f"from outside, in a calm: {Counter(outcomes)}"))
        deaf: list[str] = []

        async def all_heard() -> bool:
            deaf[:] = [
                f"{browser.page.name} in {room}"
                for person in self.people
                if (browser := person.browser) is not None
                for room in browser.page.rooms
                if last[room] not in browser.keys_seen
            ]
            return not deaf

        try:
            await wait_until(all_heard, "all hear what is said", CALM_SECONDS)
        except TimeoutError:
            sentence = f"{len(deaf)} pages are deaf in a calm: {deaf[:20]}"
            self.violations.append(Violation("I1", sentence))

    async def see_keys(self, living: dict[str, set[str]]) -> None:
        """Wait until the engine has keys of living rooms only."""
        others: set[str] = set()

        async def only_theirs() -> bool:
            keys = await asyncio.to_thread(self.keys)
            rooms = {key: re.search(r"room-\d+", key) for key in keys}
            others.clear()
            others.update(key for key, room in rooms.items() if room and room[0] not in living)
            return not others

        # Rooms that nobody is in any more keep their history for its time.
        seconds = self.cluster.patience.history_seconds + CALM_SECONDS
        with contextlib.suppress(TimeoutError):
            await wait_until(only_theirs, "keys", seconds)
        if others:
            sentence = f"the engine has {len(others)} keys of rooms in which nobody is"
            self.violations.append(Violation("I4", sentence, tuple(sorted(others)[:20])))

    def see_farewells(self, living: dict[str, set[str]]) -> None:
        """Look whether those who are there were told who else is."""
        pages = [person.browser.page for person in self.people if person.browser]
        self.violations += wrong_last_edges(pages, self.record, living)

    async def see_idle(self, fresh: dict[int, Any], idle: set[str]) -> None:
        """Wait until nothing is left of all those who have gone."""
        left: list[str] = []

        async def all_gone() -> bool:
            left[:] = sorted(shapes(await asyncio.to_thread(self.keys)) - idle)
            numbers = await self.numbers()
            for node, had in fresh.items():
                has = numbers[node] or {"connections": "?", "tasks": 10**6}
                if has["connections"] or has["tasks"] > had["tasks"]:
                    left.append(f"node {node} has {has}, and had {had} before anybody came")
            return not left

        seconds = self.cluster.patience.history_seconds + CALM_SECONDS
        with contextlib.suppress(TimeoutError):
            await wait_until(all_gone, "idle", seconds)
        if left:
            sentence = f"{len(left)} things are left though everybody has gone"
            shown = await asyncio.to_thread(self.show, await asyncio.to_thread(self.keys))
            self.violations.append(Violation("I4", sentence, (*left[:20], *shown)))

    def show(self, keys: list[str]) -> list[str]:
        """What is in some keys, for people."""
        readers = {b"hash": "HGETALL", b"set": "SMEMBERS", b"string": "GET"}
        shown = []
        with redis.Redis.from_url(self.cluster.engine.url) as client:
            for key in keys[:SHOWN_KEYS]:
                reader = readers.get(client.execute_command("TYPE", key))
                content = client.execute_command(reader, key) if reader else "..."
                shown.append(f"{key}, {client.pttl(key)} ms: {content}")
        return shown

    async def is_served(self) -> bool:
        numbers = await self.numbers()
        return all(one is not None and not one["outage"] for one in numbers.values())

    async def is_calm(self) -> bool:
        return not self.restless()

    async def is_over(self) -> bool:
        return all(person.over for person in self.people)

    def restless(self) -> list[Person]:
        """Who is neither away nor told where its rooms stand."""
        return [person for person in self.people if not person.resting]

    def living(self) -> dict[str, set[str]]:
        """Who is where, as they know it themselves."""
        rooms: dict[str, set[str]] = {}
        for person in self.people:
            if person.browser is not None:
                for room in person.browser.page.rooms:
                    rooms.setdefault(room, set()).add(person.browser.page.user)
        return rooms

    def living_rooms(self) -> list[str]:
        return sorted(self.living())

    def keys(self) -> list[str]:
        """The keys that are not about to expire by themselves."""
        with self.cluster.engine.connect() as client:
            names = self.cluster.engine.keys(f"{PREFIX}:*")
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.pttl(name)
            lives = zip(names, pipeline.execute(), strict=True)
        # -2 is one that has expired meanwhile, -1 one that never does.
        return [name for name, ms in lives if ms == -1 or ms > LEFTOVER_SECONDS * 1000]

    async def numbers(self) -> dict[int, Any]:
        nodes = self.cluster.nodes
        answers = await asyncio.gather(*(node.ask("/numbers") for node in nodes))
        return {node.number: answer for node, answer in zip(nodes, answers, strict=True)}

    @contextlib.asynccontextmanager
    async def watching(self, invariant: str) -> Any:
        """Take a wait that ended at its bound for a violation."""
        try:
            yield
        except TimeoutError as error:
            self.violations.append(Violation(invariant, str(error)))

    def tell(self, what: str) -> None:
        print(f"{now():7.2f} {what}", flush=True)


def shapes(keys: list[str]) -> set[str]:
    """The names of keys without what differs from one life of a node to the next."""
    return {re.sub(r"[0-9a-f]{8,}", "*", key) for key in keys}


async def run(engine_name: str, seconds: float, seed: int, clients: int) -> list[Violation]:
    """Run from the first start to the last stop; what is wrong."""
    with running_engine(engine_name) as engine:
        async with running_cluster(engine, Patience()) as cluster:
            chaos = Chaos(cluster, seed, clients)
            await chaos.run(seconds)
            chaos.tell("checking")
        found = chaos.violations + check(chaos.record)
    found += [Violation("I0", sentence) for sentence in cluster.complaints]
    counts = count_events(chaos.record)
    print(f"{len(chaos.record.pages)} pages: {dict(counts)}")
    found += [
        Violation("I0", f"nothing was {what}: this run shows nothing")
        for what in SHOWN
        if not counts[what]
    ]
    return found


def count_events(record: Record) -> Counter[str]:
    """What there was of each kind."""
    counts: Counter[str] = Counter()
    for page in record.pages:
        for event in page.events:
            if isinstance(event, Positioned):
                counts[RECOVERED[event.recovered]] += 1
            else:
                counts[event.type if isinstance(event, Got) else type(event).__name__.lower()] += 1
    counts.update(publish.outcome for publish in record.publishes)
    return counts


def main() -> None:
    """Run, and exit with all that is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--engine", choices=ENGINES, default=VALKEY)
    options: Any = parser.parse_args()
    print(f"chaos for {options.minutes:g} minutes with --seed {options.seed}", flush=True)
    seconds = options.minutes * 60
    found = asyncio.run(run(options.engine, seconds, options.seed, options.clients))
    if found:
        kinds: dict[tuple[str, ...], list[Violation]] = {}
        for violation in found:
            words = re.sub(r"\S*\d\S*", "", violation.sentence).split()[:6]
            kinds.setdefault((violation.invariant, *words), []).append(violation)
        shown = [
            "\n\n".join([*map(str, alike[:SHOWN_ALIKE]), f"({len(alike)} like this)"])
            for alike in kinds.values()
        ]
        sys.exit("\n\n".join([*shown, f"--seed {options.seed}: {len(found)} things are wrong"]))
    print(f"--seed {options.seed}: nothing is wrong")


if __name__ == "__main__":
    main()

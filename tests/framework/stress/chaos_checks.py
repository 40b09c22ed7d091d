"""The checks of a chaos run in a calm phase and at the end: views, lists of members, messages, keys and commands."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .chaos_program import PREFIX
from .cluster import Cluster
from .edges import wrong_members
from .events import excerpt
from .node_process import now, wait_until
from .record import Record, Violation
from .simulated_users import SimulatedUser
from .views import PageView, wrong_views

# The time in which all messages arrive, and keys are deleted.
CALM_SECONDS = 10.0
# The delay that a loaded machine adds to what takes milliseconds.
SLACK_SECONDS = 2.0
# Redis deletes the keys of a room this long after the last refresh; those of commands live longer. A stream that was
# deleted and created again gets its expiry a minute later, when the index of histories is read.
ROOM_SECONDS = 300.0
LASTING_KEYS = re.compile(r"\{%nodes\}:(c|f|s:|k:|l:|h|hb|hx)|:s$")


class Checks:
    """The checks of a run.

    Attributes:
        violations: The violations found so far.

    Args:
        cluster: The cluster.
        users: The users.
        record: The record.
    """

    def __init__(self, cluster: Cluster, users: list[SimulatedUser], record: Record) -> None:
        self.cluster = cluster
        self.users = users
        self.record = record
        self.violations: list[Violation] = []

    @contextlib.contextmanager
    def recording_timeout(self, invariant: str) -> Iterator[None]:
        """Record a timeout as a violation."""
        try:
            yield
        except TimeoutError as error:
            self.violations.append(Violation(invariant, str(error)))

    async def wait_calm(self) -> None:
        """Wait until Redis is available on all nodes, and all users are in their rooms."""
        try:
            await wait_until(self.is_served, "Redis is available on all nodes")
        except TimeoutError as error:
            self.violations.append(Violation("I5", str(error), tuple(await self.describe())))
        try:
            await wait_until(self.is_calm, "all users are in their rooms")
        except TimeoutError as error:
            lost = [user.browser.page for user in self.unsettled_users() if user.browser]
            sentence = f"{error}, but not {[page.name for page in lost]}"
            shown = [line for page in lost[:2] for line in excerpt(page, len(page.events))]
            self.violations.append(Violation("I5", sentence, tuple(shown)))

    async def describe(self) -> list[str]:
        """Return the states and the logs of all nodes and servers."""
        return [*await self.cluster.describe_nodes(), *self.cluster.deployment.read_logs()]

    async def check_presence(self) -> None:
        """Wait for one expiry and what follows; then lists of nodes and views of pages must be true."""
        present = self.present()
        timing = self.cluster.timing
        seconds = timing.expiry_seconds * 4 / 3 + timing.grace_seconds + SLACK_SECONDS
        found: list[Violation] = []

        async def is_true() -> bool:
            found[:] = await self.wrong_lists(present)
            if not found:
                found[:] = wrong_views(self.views(), present)
            return not found

        started_at = now()
        with contextlib.suppress(TimeoutError):
            await wait_until(is_true, "presence", seconds)
        self.violations += found
        if found:
            rooms = sorted(set(re.findall(r"room-\d+", " ".join(map(str, found)))))
            lines = await asyncio.to_thread(self.cluster.deployment.dump, rooms[:3], PREFIX)
            self.cluster.log("\n".join([*map(str, found[:5]), *lines]))
        count = sum(len(users) for users in present.values())
        self.cluster.log(f"presence of {count} users after {now() - started_at:.2f} s")

    async def wrong_lists(self, present: dict[str, set[str]]) -> list[Violation]:
        """Return the wrong lists of nodes."""
        reported: dict[int, Any] = {}
        for node in self.cluster.nodes:
            reported[node.number] = await node.get("/presence") or {}
        return wrong_members(present, reported)

    def views(self) -> list[tuple[str, PageView]]:
        """Return the views of the open pages that are in their rooms."""
        return [
            (user.browser.page.name, user.browser.view)
            for user in self.users
            if user.browser is not None and user.browser.positioned.is_set()
        ]

    async def check_received(self, last: dict[str, str]) -> None:
        """Wait until each page has received the last message of each of its rooms."""
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
        else:
            self.record.checkpoints.append(now())

    async def check_command(self) -> None:
        """Check that a command returns within a second when all nodes respond."""
        for node in self.cluster.nodes:
            # NOTE: for one expiry after a loss of the list of nodes, commands are not confirmed.
            for _ in range(3):
                started_at = now()
                reply = await node.get("/close?user=nobody")
                seconds = now() - started_at
                if reply is not None and reply["outcome"] == "done":
                    break
            if reply is None or reply["outcome"] != "done" or seconds > SLACK_SECONDS:
                sentence = f"a command of node {node.number} took {seconds:.2f} s: {reply}"
                self.violations.append(Violation("P6", sentence))

    def check_outcomes(self, outcomes: list[str], source: str) -> None:
        """Check that all publishes of a calm phase were accepted."""
        if refused := Counter(outcomes) - Counter({"accepted": len(outcomes)}):
            sentence = f"outcomes of publishes {source} in a calm phase: {dict(refused)}"
            self.violations.append(Violation("I3", sentence))

    async def check_keys(self) -> None:
        """Check that all keys expire."""
        expiries = await asyncio.to_thread(self.cluster.deployment.expiries, f"{PREFIX}:*")
        # NOTE: an expiry from before a jump of the clock back is later by the distance of the jump.
        bound_ms = (ROOM_SECONDS + self.cluster.clock_back_seconds + 1.0) * 1000
        wrong = {
            key: ms
            for key, ms in expiries.items()
            if not LASTING_KEYS.search(key) and not 0 <= ms <= bound_ms
        }
        if wrong:
            sentence = f"Redis has {len(wrong)} keys that do not expire"
            shown = [f"{key}: {ms} ms" for key, ms in sorted(wrong.items())[:20]]
            self.violations.append(Violation("I4", sentence, tuple(shown)))

    async def check_idle(self, fresh: dict[int, Any]) -> None:
        """Wait until the nodes have no connections left, nor tasks of them."""
        left: list[str] = []

        async def nothing_left() -> bool:
            statistics = await self.statistics()
            left.clear()
            for node, had in fresh.items():
                has = statistics[node] or {"connections": "?", "tasks": 10**6}
                if has["connections"] or has["tasks"] > had["tasks"]:
                    left.append(f"node {node} has {has}, and had {had} at the start")
            return not left

        with contextlib.suppress(TimeoutError):
            await wait_until(nothing_left, "idle", CALM_SECONDS)
        if left:
            sentence = "nodes are not idle although all users have left"
            self.violations.append(Violation("I4", sentence, tuple(left)))

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

    def targets(self, node: int) -> list[tuple[str, str]]:
        """Return the users that are connected to a node, each with a room."""
        return [
            (user.browser.page.user, user.browser.page.rooms[0])
            for user in self.users
            if user.browser is not None
            and user.browser.positioned.is_set()
            and user.browser.node == node
        ]

    async def statistics(self) -> dict[int, Any]:
        """Return the statistics of each node."""
        nodes = self.cluster.nodes
        answers = await asyncio.gather(*(node.get("/statistics") for node in nodes))
        return {node.number: answer for node, answer in zip(nodes, answers, strict=True)}

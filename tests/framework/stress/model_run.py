"""A run of the model test: it executes a schedule, waits until the cluster must have healed, and checks."""

from __future__ import annotations

import asyncio

from falcon_pachinko import BackendUnavailable

from ..support.redis_servers import RedisServer
from ..support.server_clock import ServerClock
from .model import SLACK_SECONDS, delivery_violations, silent_losses
from .model_cluster import TIMING, ModelCluster, wait_briefly
from .model_faults import RedisFaults
from .model_node import ModelNode, cut, now
from .model_presence import presence_violations
from .model_report import timeline
from .model_restrictions import ModelRestrictions
from .schedule import (
    ROOMS,
    Cut,
    FailOver,
    Fault,
    Freeze,
    Join,
    Kill,
    Leave,
    Pause,
    Publish,
    PublishDirect,
    PublishExternally,
    ReadMembers,
    RedisFault,
    Reload,
    Restrict,
    Schedule,
    Start,
    Step,
    Thaw,
)

# The bound of all waits; longer than the longest backoff of a reconnection.
WAIT_SECONDS = 15.0
POLL_SECONDS = 0.03
# The user who joins at the end.
PROBE = "eve"
RENEWAL_SECONDS = TIMING.expiry_seconds / 3


class ModelRun:
    """One run of a schedule.

    Attributes:
        steps: The executed steps with their times.
        violations: What the run has found.
    """

    def __init__(self, schedule: Schedule, server: RedisServer, clock: ServerClock | None) -> None:
        self.schedule = schedule
        self.cluster = ModelCluster(server)
        self.record = self.cluster.record
        self.restrictions = ModelRestrictions(self.record)
        self.redis = RedisFaults(server, clock, self.cluster.prefix)
        self.steps: list[tuple[float, Step]] = []
        self.violations: list[str] = []

    async def execute(self) -> list[str]:
        """Execute the schedule and return the violations."""
        async with self.cluster.running(self.schedule.nodes):
            for step in self.schedule.steps:
                self.steps.append((now(), step))
                await self.apply(step)
            await self.end_faults()
            await self.check_end()
        checks = [*delivery_violations(self.record), *presence_violations(self.record)]
        self.violations += [each for each in checks if each not in self.violations]
        return self.violations

    def report(self) -> str:
        """Return the violations, the schedule as code, and the events."""
        lines = ["", *self.violations, "", "The schedule:", repr(self.schedule), "", "The record:"]
        return "\n".join([*lines, *timeline(self.record, self.steps)])

    # Steps.

    async def apply(self, step: Step) -> None:
        """Execute a step; one of a node without effect if it has been killed."""
        cluster = self.cluster
        match step:
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case PublishExternally(room):
                await cluster.publish(None, room)
            case Leave(user, room, grace):
                await cluster.leave(user, room, grace=grace)
            case RedisFault():
                await self.inject(step)
            case Fault():
                await self.apply_to_link(step)
            case _ if (node := cluster.nodes[step.node]).is_alive:  # type: ignore[attr-defined]
                await self.apply_on_node(step, node)

    async def apply_on_node(self, step: Step, node: ModelNode) -> None:
        """Execute a step of a node's clients."""
        cluster = self.cluster
        match step:
            case Join(user, _, room):
                await cluster.join(node, user, room)
            case Reload(user, _, room):
                await cluster.leave(user, room, grace=True)
                await cluster.join(node, user, room)
            case Publish(_, room):
                await cluster.publish(node, room)
            case PublishDirect():
                await cluster.publish(node, "")
            case Restrict(user, _, is_banned):
                call = self.restrictions.restrict(node, user, is_banned=is_banned)
                await wait_briefly(node.spawn(call))
            case ReadMembers(_, room):
                await wait_briefly(node.spawn(node.read_members(room)))
            case _:
                raise AssertionError(f"{step!r} is not a step of a node")

    async def apply_to_link(self, step: Fault) -> None:
        """Execute a fault of a node."""
        node = self.cluster.nodes[step.node]  # type: ignore[attr-defined]
        match step:
            case Start() if not node.is_alive:
                self.cluster.nodes[step.node] = await self.cluster.start_node()
            case Kill():
                self.cluster.kill(node)
            case Cut(_, silent) if node.is_alive:
                self.cluster.begin_fault(node)
                cut(node.link, silent=silent)
            case _ if node.is_alive:
                self.restore(node)

    def restore(self, node: ModelNode) -> None:
        """Restore a link."""
        node.link.release()
        self.cluster.end_faults(node)

    async def inject(self, fault: RedisFault) -> None:
        """Execute a fault of Redis."""
        if fault.loses_data:
            self.record.data_loss = min(self.record.data_loss, now())
        if fault.hits_redis and not isinstance(fault, Thaw):
            self.cluster.begin_fault(None)
        if isinstance(fault, FailOver):
            for link in self.cluster.links:
                cut(link, silent=False)
        await self.redis.inject(fault)
        if isinstance(fault, FailOver):
            self.release_links()
        if not isinstance(fault, Freeze):
            self.cluster.end_faults(None)

    def release_links(self) -> None:
        """Restore all links but those of killed nodes and those that a step has cut."""
        failed = {fault.node for fault in self.record.faults if fault.end is None}
        closed = [
            node.link for node in self.cluster.started if not node.is_alive or node.number in failed
        ]
        for link in self.cluster.links:
            if link not in closed:
                link.release()

    async def end_faults(self) -> None:
        """End all faults: links work and Redis runs."""
        self.cluster.server.resume()
        self.cluster.end_faults(None)
        for node in self.cluster.live:
            self.restore(node)

    # The end.

    async def check_end(self) -> None:
        """Wait until everything must be correct again; then let each node publish, a user join, and all leave."""
        await self.finish_tasks()
        self.violations += await self.converge(RENEWAL_SECONDS + TIMING.grace_seconds + 0.1)
        if not self.violations:
            await self.probe()
        await self.finish_tasks()

    async def finish_tasks(self) -> None:
        """Wait for all calls; none of them may hang or raise."""
        tasks = self.cluster.tasks()
        if not tasks:
            return
        done, pending = await asyncio.wait(tasks, timeout=WAIT_SECONDS)
        self.violations += [f"a call did not return: {task.get_coro()}" for task in pending]
        self.violations += [
            f"a call raised: {task.exception()!r}"
            for task in done
            if not task.cancelled() and task.exception() is not None
        ]

    async def converge(self, minimum_seconds: float = 0.0) -> list[str]:
        """Wait until nothing is wrong, and at least for a time; return the faults that remain at the bound.

        The bound is one expiry and one renewal period, the grace period and some slack, after the last
        outage of a node.
        """
        bound = self.record.heal_seconds + TIMING.grace_seconds + SLACK_SECONDS
        start, stalls = now(), len(self.record.stalls)
        deadline = start + bound
        while True:
            wrong = await self.problems()
            if not wrong and now() >= start + minimum_seconds:
                return []
            is_disturbed = any(node.backend.outage for node in self.cluster.live)
            if is_disturbed or len(self.record.stalls) > stalls:
                deadline, stalls = now() + bound, len(self.record.stalls)
            if wrong and now() > min(deadline, start + WAIT_SECONDS):
                return wrong
            await asyncio.sleep(POLL_SECONDS)

    async def problems(self) -> list[str]:
        """Return the present faults."""
        truth: dict[str, set[str]] = {room: set() for room in ROOMS}
        for client in self.cluster.clients:
            truth[client.stay.room].add(client.stay.user)
        found = [*silent_losses(self.record), *self.restrictions.violations(self.cluster.live)]
        for node in self.cluster.live:
            try:
                async with asyncio.timeout(2 * TIMING.answer_seconds):
                    found += await node.differences(truth)
            except (BackendUnavailable, TimeoutError) as error:
                found.append(f"P5: node {node.number}: {error!r}")
        return found

    async def probe(self) -> None:
        """Check that each room works: messages arrive, a user joins, all users leave."""
        cluster, record = self.cluster, self.record
        known = {*record.sent}
        for room in ROOMS:
            for node in (*cluster.live, None):
                await cluster.publish(node, room)
            await cluster.join(cluster.live[-1], PROBE, room)
        await self.finish_tasks()
        self.violations += await self.converge()
        for name in record.sent.keys() - known:
            if record.sent[name].returned is None:
                self.violations.append(
                    f"P5: {record.sent[name]} raised after the end of all faults"
                )
        for client in tuple(cluster.clients):
            await cluster.leave(client.stay.user, client.stay.room, grace=False)
        self.violations += await self.converge()

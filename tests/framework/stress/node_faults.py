"""The faults of one node: its process, its link to Redis, and commands while it is cut off."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from .cluster import Cluster, Fault
from .node_process import now
from .record import Command
from .redis_faults import delete, find_keys

# A node notices a held connection within answer_seconds (1 s), at the next of its four checks in that time.
NOTICE_SECONDS = 2.5


async def kill(cluster: Cluster, fault: Fault) -> None:
    """Kill a node and start it again."""
    async with cluster.node_locks[fault.node]:
        with cluster.recording("kill", fault.node):
            node = cluster.nodes[fault.node]
            await node.stop(signal.SIGKILL)
            await asyncio.sleep(fault.seconds)
            await node.start()


async def kill_with_keys(cluster: Cluster, fault: Fault) -> None:
    """Kill a node while the keys that belong to no room are lost, as with their server of a cluster."""
    async with cluster.node_locks[fault.node]:
        with cluster.recording("kill", fault.node):
            node = cluster.nodes[fault.node]
            await node.stop(signal.SIGKILL)
            async with cluster.server_lock:
                with cluster.recording(fault.kind, loses_data=True):
                    await asyncio.to_thread(delete, await find_keys(cluster, "{%nodes}:*"))
            await asyncio.sleep(fault.seconds)
            await node.start()


async def restart_all(cluster: Cluster, fault: Fault) -> None:
    """Restart all nodes in order, one after the other."""
    for number, node in enumerate(cluster.nodes):
        async with cluster.node_locks[number]:
            with cluster.recording("restart", number):
                await node.stop(signal.SIGTERM)
                await node.start()


async def pause(cluster: Cluster, fault: Fault) -> None:
    """Freeze a node."""
    async with cluster.node_locks[fault.node]:
        with cluster.recording("pause", fault.node):
            cluster.nodes[fault.node].send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                cluster.nodes[fault.node].send_signal(signal.SIGCONT)


async def reset_connections(cluster: Cluster, fault: Fault) -> None:
    """Reset the connections of a node."""
    async with cluster.link_locks[fault.node]:
        with cluster.recording("reset connections", fault.node):
            cluster.nodes[fault.node].link.reset()


async def hold(cluster: Cluster, fault: Fault) -> None:
    """Stop forwarding in one direction or in both, without closing connections."""
    async with cluster.link_locks[fault.node]:
        with cluster.recording(fault.kind, fault.node):
            link = cluster.nodes[fault.node].link
            link.hold(requests=fault.kind != "hold replies", replies=fault.kind != "hold requests")
            try:
                await asyncio.sleep(fault.seconds)
                await check_noticed(cluster, fault)
            finally:
                link.release()


async def check_noticed(cluster: Cluster, fault: Fault) -> None:
    """Record an error if a node has not noticed that Redis is unavailable."""
    node = cluster.nodes[fault.node]
    if fault.seconds < NOTICE_SECONDS or cluster.node_locks[fault.node].locked():
        return  # the fault is too short, or the node is stopped or paused itself
    statistics = await node.get("/statistics")
    if statistics is not None and not statistics["outage"]:
        cluster.errors.append(
            f"node {fault.node} has not noticed '{fault.kind}' within {fault.seconds:.1f} s"
        )


async def close_while_cut(cluster: Cluster, fault: Fault) -> None:
    """Let another node close the connections of a user or a room of a node that is cut off."""
    async with cluster.link_locks[fault.node]:
        with cluster.recording(fault.kind, fault.node):
            link = cluster.nodes[fault.node].link
            link.hold(requests=True, replies=True)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(close_target(cluster, fault))
                    await asyncio.sleep(fault.seconds)
                    link.release()
            finally:
                link.release()


async def close_target(cluster: Cluster, fault: Fault) -> None:
    """Send a command about a user or a room of a node, from another node, and record it."""
    targets = cluster.targets(fault.node)
    if not targets:
        return
    user, room = targets[int(fault.seconds * 1000) % len(targets)]
    user, room = (user, "") if fault.kind.startswith("disconnect") else ("", room)
    started_at = now()
    other = cluster.nodes[(fault.node + 1) % len(cluster.nodes)]
    reply: Any = await other.get(f"/close?user={user}" if user else f"/close?room={room}")
    # A node that does not respond, because it was killed, may have sent the command.
    outcome = "refused" if reply is None else reply["outcome"]
    cluster.commands.append(Command(user, room, started_at, now(), outcome))

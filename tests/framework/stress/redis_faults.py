"""The faults of Redis: its processes, its clock and its keys. On a cluster each affects one server."""

from __future__ import annotations

import asyncio
import random
import re

import redis

from ..support.redis_servers import RedisServer
from .chaos_program import PREFIX
from .cluster import Cluster, Fault
from .deployment import SentinelDeployment

# The defaults of Redis and Valkey.
DEFAULT_BUFFER_LIMIT = "pubsub 33554432 8388608 60"
# A key of a wrong type that no node needs any more expires by itself.
WRONG_TYPE_MS = 30_000
Keys = list[tuple[RedisServer, str]]


async def find_server(cluster: Cluster, fault: Fault) -> RedisServer:
    """Return the primary that a fault affects, once all servers accept writes."""
    await asyncio.to_thread(cluster.deployment.wait_ready)
    primaries = await asyncio.to_thread(lambda: cluster.deployment.primaries)
    return primaries[fault.node % len(primaries)]


async def kill_subscribers(cluster: Cluster, fault: Fault) -> None:
    """Close all connections that have subscribed."""
    async with cluster.server_lock:
        server = await find_server(cluster, fault)
        with cluster.recording("kill subscribers"):
            await asyncio.to_thread(server.command, "CLIENT", "KILL", "TYPE", "pubsub")


async def kill_clients(cluster: Cluster, fault: Fault) -> None:
    """Close all other connections."""
    async with cluster.server_lock:
        server = await find_server(cluster, fault)
        with cluster.recording("kill clients"):
            await asyncio.to_thread(server.command, "CLIENT", "KILL", "TYPE", "normal")


async def shrink_buffers(cluster: Cluster, fault: Fault) -> None:
    """Let Redis disconnect subscribers that read slowly."""
    name = "client-output-buffer-limit"
    async with cluster.server_lock:
        server = await find_server(cluster, fault)
        with cluster.recording("small buffers"):
            await asyncio.to_thread(server.command, "CONFIG", "SET", name, "pubsub 1024 1024 1")
            cluster.has_small_buffers = True
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                cluster.has_small_buffers = False
                await asyncio.to_thread(server.command, "CONFIG", "SET", name, DEFAULT_BUFFER_LIMIT)


async def freeze(cluster: Cluster, fault: Fault) -> None:
    """Freeze Redis."""
    async with cluster.server_lock:
        server = await find_server(cluster, fault)
        with cluster.recording("freeze redis"):
            server.pause()
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                server.resume()
            await asyncio.to_thread(cluster.deployment.wait_ready)


async def run_slow_command(cluster: Cluster, fault: Fault) -> None:
    """Keep Redis busy."""
    async with cluster.server_lock:
        server = await find_server(cluster, fault)
        with cluster.recording("slow command"):
            await asyncio.to_thread(server.command, "DEBUG", "SLEEP", str(fault.seconds))
            await asyncio.to_thread(cluster.deployment.wait_ready)


async def restart(cluster: Cluster, fault: Fault) -> None:
    """Kill Redis, and start it without data."""
    async with cluster.server_lock:
        server = await find_server(cluster, fault)
        with cluster.recording("restart redis", loses_data=True):
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(server.restart)
            await asyncio.to_thread(cluster.deployment.wait_ready)


async def fail_over(cluster: Cluster, fault: Fault) -> None:
    """Replace Redis by a replica that lacks the last changes; without a Sentinel, restart it with an old copy."""
    async with cluster.server_lock:
        server = await find_server(cluster, fault)
        with cluster.recording("fail over", loses_data=True):
            if isinstance(cluster.deployment, SentinelDeployment):
                await asyncio.to_thread(cluster.deployment.fail_over, fault.seconds)
            else:
                copy = await asyncio.to_thread(copy_keys, server)
                await asyncio.sleep(fault.seconds)
                async with cluster.without_links():
                    await asyncio.to_thread(server.restart)
                    await asyncio.to_thread(cluster.deployment.wait_ready)
                    await asyncio.to_thread(restore_keys, server, copy)
            await cluster.wait_available()


def copy_keys(server: RedisServer) -> list[tuple[bytes, int, bytes]]:
    """Return all keys, each with its remaining milliseconds and its data; those of a room as of one time."""
    found: list[tuple[bytes, int, bytes]] = []
    with redis.Redis(port=server.port) as client:
        by_tag: dict[bytes, list[bytes]] = {}
        for name in client.scan_iter(f"{PREFIX}:*", count=1000):
            by_tag.setdefault(name.partition(b"}")[0], []).append(name)
        for names in by_tag.values():
            pipeline = client.pipeline(transaction=True)
            for name in names:
                pipeline.pttl(name)
                pipeline.dump(name)
            replies = pipeline.execute()
            found += zip(names, replies[::2], replies[1::2], strict=True)
    return [(name, max(1, ms) if ms >= 0 else 0, data) for name, ms, data in found if data]


def restore_keys(server: RedisServer, copy: list[tuple[bytes, int, bytes]]) -> None:
    """Restore keys, before a client has connected."""
    with redis.Redis(port=server.port) as client:
        pipeline = client.pipeline(transaction=False)
        for key, ms, data in copy:
            pipeline.restore(key, ms, data, replace=True)
        pipeline.execute()


async def jump(cluster: Cluster, fault: Fault) -> None:
    """Let the clock of Redis jump.

    NOTE: not back on a cluster: a server that was in a minority before, as its clock says in the future, would refuse
    commands until then (``among_minority_time`` in cluster.c).
    """
    if cluster.deployment.mode == "cluster" and fault.kind == "clock jumps back":
        return
    async with cluster.server_lock:
        server = await find_server(cluster, fault)
        clocks = cluster.deployment.clocks
        if cluster.deployment.mode == "cluster":
            clocks = [clocks[cluster.deployment.servers.index(server)]]
        seconds = fault.seconds if fault.kind == "clock jumps ahead" else -fault.seconds
        with cluster.recording(fault.kind, loses_data=True):
            for clock in clocks:
                clock.jump(seconds)
            cluster.clock_back_seconds += max(0.0, -seconds)


async def delete_room(cluster: Cluster, fault: Fault) -> None:
    """Delete the keys of a room."""
    room = pick_room(cluster, fault)
    async with cluster.server_lock:
        with cluster.recording(fault.kind, loses_data=True, room=room):
            await asyncio.to_thread(delete, await find_keys(cluster, f"{{{room}}}:*"))


async def delete_key(cluster: Cluster, fault: Fault) -> None:
    """Delete one key: in half of all cases of a room in use, otherwise any."""
    pattern = f"{{{pick_room(cluster, fault)}}}:*" if fault.at * 1000 % 2 < 1 else "*"
    async with cluster.server_lock:
        keys = await find_keys(cluster, pattern)
        if not keys:
            return
        key = keys[int(fault.at * 1000) % len(keys)]
        cluster.log(f"the key is {key[1]}")
        found = re.search(r"room-\d+", key[1])
        with cluster.recording(fault.kind, loses_data=True, room=found[0] if found else ""):
            await asyncio.to_thread(delete, [key])


async def evict(cluster: Cluster, fault: Fault) -> None:
    """Delete a random half of the keys, as by a ``maxmemory-policy`` that evicts."""
    async with cluster.server_lock:
        keys = await find_keys(cluster, "*")
        rng = random.Random(fault.at)
        with cluster.recording(fault.kind, loses_data=True):
            await asyncio.to_thread(delete, [key for key in keys if rng.random() < 0.5])


async def replace_room(cluster: Cluster, fault: Fault) -> None:
    """Replace each key of a room by a text."""
    room = pick_room(cluster, fault)
    async with cluster.server_lock:
        with cluster.recording(fault.kind, loses_data=True, room=room):
            for server, key in await find_keys(cluster, f"{{{room}}}:*"):
                await asyncio.to_thread(server.command, "SET", key, "text", "PX", WRONG_TYPE_MS)


async def flush(cluster: Cluster, fault: Fault) -> None:
    """Delete everything."""
    async with cluster.server_lock:
        server = await find_server(cluster, fault)
        with cluster.recording(fault.kind, loses_data=True):
            await asyncio.to_thread(server.command, "FLUSHALL")


def pick_room(cluster: Cluster, fault: Fault) -> str:
    """Return a room of the node of a fault."""
    rooms = sorted({room for _, room in cluster.targets(fault.node)})
    return rooms[int(fault.at * 1000) % len(rooms)] if rooms else "room-0"


async def find_keys(cluster: Cluster, pattern: str) -> Keys:
    """Return the keys with the prefix that match a pattern, once all servers accept writes."""
    await asyncio.to_thread(cluster.deployment.wait_ready)
    return await asyncio.to_thread(cluster.deployment.find_keys, f"{PREFIX}:{pattern}")


def delete(keys: Keys) -> None:
    """Delete keys."""
    for server in {server.port: server for server, _ in keys}.values():
        with server.connect() as client:
            pipeline = client.pipeline(transaction=False)
            for of, key in keys:
                if of is server:
                    pipeline.delete(key)
            pipeline.execute()

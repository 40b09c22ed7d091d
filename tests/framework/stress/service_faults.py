"""The faults around the cluster: crowds, missed megabytes, other services, a service without Redis."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path

import redis

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.publisher import AsyncPublisher

from ..support.redis_servers import RedisServer
from .chaos_program import PREFIX
from .cluster import Cluster, Fault
from .crowd import crowd
from .deliveries import OTHER_SERVICE
from .node_process import WAIT_SECONDS, Link, NodeProcess
from .redis_faults import find_server, pick_room

TEMPLATE = Path(__file__).parents[3]
CROWD_USERS = 1000
FEW_USERS = 5
FILLER_BYTES = 40_000
# A room keeps a megabyte: less and more than that is missed, at most 30 MB in 20 rooms.
MESSAGES_PER_SECOND = 15
HEADROOM_BYTES = 256 * 1024
OTHER_KEYS = 50
OTHER_KEYS_SECONDS = 30
# Shorter than a node needs to renew its leases once its link is restored, and longer.
KILL_SECONDS = (0.0, 0.5)
NO_REDIS = "4 without APP_BACKEND_URL: each process would have rooms of its own"


async def fill_room(cluster: Cluster, fault: Fault) -> None:
    """Let a crowd enter a room at once, and kill its node: all of them are evicted at once."""
    number = fault.node
    node, room = cluster.nodes[number], pick_room(cluster, fault)
    entering = crowd(cluster.pages, number, node.port, room, CROWD_USERS)
    async with cluster.node_locks[number], entering:
        with cluster.recording(fault.kind, number):
            await node.stop(signal.SIGKILL)
            await node.start()


async def kill_evicted(cluster: Cluster, fault: Fault) -> None:
    """Kill a node that admitted users while it was cut off and evicted, as soon as its link is restored."""
    number = fault.node
    node, room = cluster.nodes[number], pick_room(cluster, fault)
    async with cluster.node_locks[number], cluster.link_locks[number]:
        with cluster.recording(fault.kind, number):
            node.link.hold(requests=True, replies=True)
            try:
                await asyncio.sleep(fault.seconds)
                async with crowd(cluster.pages, number, node.port, room, FEW_USERS):
                    node.link.release()
                    await asyncio.sleep(KILL_SECONDS[int(fault.seconds * 1000) % 2])
                    await node.stop(signal.SIGKILL)
            finally:
                node.link.release()
            await node.start()


async def pause_all(cluster: Cluster, fault: Fault) -> None:
    """Freeze all nodes until the keys of their rooms have expired, which a jump of Redis's clock shortens."""
    async with contextlib.AsyncExitStack() as stack:
        for lock in (*cluster.node_locks, cluster.server_lock):
            await stack.enter_async_context(lock)
        with cluster.recording(fault.kind, loses_data=True):
            for node in cluster.nodes:
                node.send_signal(signal.SIGSTOP)
            try:
                for clock in cluster.deployment.clocks:
                    clock.jump(fault.seconds)
                await asyncio.sleep(cluster.timing.expiry_seconds)
            finally:
                for node in cluster.nodes:
                    node.send_signal(signal.SIGCONT)


async def miss_megabytes(cluster: Cluster, fault: Fault) -> None:
    """Publish megabytes to all rooms while a node is cut off; its connections are lost before it recovers."""
    rooms = sorted(
        {room for node in range(len(cluster.nodes)) for _, room in cluster.targets(node)}
    )
    async with cluster.link_locks[fault.node]:
        with cluster.recording(fault.kind, fault.node):
            link = cluster.nodes[fault.node].link
            link.hold(requests=True, replies=True)
            try:
                with contextlib.suppress(BackendUnavailable, TimeoutError):
                    async with asyncio.timeout(WAIT_SECONDS):
                        await publish_megabytes(cluster, rooms, fault.seconds)
            finally:
                link.reset()
                link.release()


async def publish_megabytes(cluster: Cluster, rooms: list[str], seconds: float) -> None:
    """Publish large messages to rooms for about some seconds."""
    async with AsyncPublisher(cluster.publisher_url, prefix=PREFIX) as publisher:
        for _ in range(round(seconds * MESSAGES_PER_SECOND)):
            async with asyncio.TaskGroup() as group:
                for room in rooms:
                    publishing = cluster.publish(
                        publisher, "outside-megabytes", room, "x" * FILLER_BYTES
                    )
                    group.create_task(publishing)
            await asyncio.sleep(1 / MESSAGES_PER_SECOND)


async def share_memory(cluster: Cluster, fault: Fault) -> None:
    """Let another service fill a Redis that evicts keys with an expiry."""
    async with cluster.server_lock:
        server = await find_server(cluster, fault)
        with cluster.recording(fault.kind, loses_data=True):
            try:
                await asyncio.to_thread(fill, server)
                await asyncio.sleep(fault.seconds)
            finally:
                await asyncio.to_thread(server.command, "CONFIG", "SET", "maxmemory", "0")


def fill(server: RedisServer) -> None:
    """Write more than the memory of a server can hold, which is set to little more than what it uses."""
    with server.connect() as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory-policy", "volatile-lru")
        client.config_set("maxmemory", used + HEADROOM_BYTES)
        for number in range(OTHER_KEYS):
            # On a cluster all keys of one name belong to the server that has its slot; the others refuse them.
            with contextlib.suppress(redis.ResponseError):
                client.set(f"other:{number}", "x" * FILLER_BYTES, ex=OTHER_KEYS_SECONDS)


async def run_other_service(cluster: Cluster, fault: Fault) -> None:
    """Run a service with the same prefix on another database: nothing that it does may reach the nodes."""
    url = cluster.deployment.other_url
    if not url:
        return
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        number = len(cluster.nodes)
        other = NodeProcess(number, Link([]), url, cluster.timing, Path(folder))
        try:
            await other.start()
            for user, room in cluster.targets(fault.node)[:FEW_USERS]:
                async with crowd([], number, other.port, room, FEW_USERS):
                    await other.get(f"/close?user={user}")
                    await other.get(f"/close?room={room}")
                    with contextlib.suppress(BackendUnavailable):
                        await broadcast_as_other(url, room)
        finally:
            await other.stop(signal.SIGTERM)
        cluster.errors += other.errors()


async def broadcast_as_other(url: str, room: str) -> None:
    """Publish a message of the other service."""
    payload = {
        "key": OTHER_SERVICE,
        "room": room,
        "sender": OTHER_SERVICE,
        "user": "",
        "exclude": "",
    }
    async with AsyncPublisher(url, prefix=PREFIX) as publisher:
        await publisher.broadcast_to_room(room, {"type": "message", "payload": payload})


def can_bake() -> bool:
    """Return whether the dependencies of a generated service are installed."""
    needed = ("aiosqlite", "alembic", "cookiecutter", "jwt", "pydantic_settings", "sqlalchemy")
    return all(map(importlib.util.find_spec, needed))


async def start_without_redis(cluster: Cluster, fault: Fault) -> None:
    """Start a generated service with several processes but without Redis: it must refuse to start."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        bake = ("cookiecutter", str(TEMPLATE), "--no-input", "--default-config", "-o", folder)
        status, output = await run_module(*bake)
        if status == 0:
            service = Path(folder) / "chat-service"
            status, output = await run_module(
                "chat_service", cwd=service, PYTHONPATH=str(service / "src"), APP_WORKERS="4"
            )
    if status != 1 or NO_REDIS not in output:
        cluster.errors.append(f"{fault.kind} exited with {status}:\n{output}")


async def run_module(
    *words: str, cwd: str | Path | None = None, **variables: str
) -> tuple[int | None, str]:
    """Run a module of Python to its end; return the status and the output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-B", "-m", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env=os.environ | variables,
    )
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        output, _ = await process.communicate()
    return process.returncode, output.decode(errors="replace")

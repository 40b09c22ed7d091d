"""Measure the input of `tools.capacity` on this machine, in about two minutes (``make sizing``).

CPU time is user and system time of a process. Messages are measured alone (each waits for the
previous one and shares no system call and no round trip) and together (two nodes with eight messages
in transit each, as under load). Redis is a Valkey from a wheel, on loopback. Nodes are processes with
a backend and without clients, except for rooms and visits, which use servers and clients. It needs
Linux.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import statistics
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import falcon.asgi
import msgspec
import redis
import uvicorn
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from bench.bounds import SERVER_BOUNDS, describe_bounds
from bench.child import Child, python, start
from bench.measure import cpu_seconds
from bench.valkey import running_valkey
from falcon_pachinko import (
    History,
    Limits,
    Message,
    ServerLimits,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.base import Backend
from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.restriction_entry import RestrictionEntry
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.publication import Publication
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol

ROOT = Path(__file__).parents[1]
WAIT_SECONDS = 60.0
ROUNDS = 5
NODES = (1, 2, 4, 8)
# The number of publishing nodes, and of messages in transit from each.
MODES = {"alone": (1, 1), "together": (2, 8)}
ROOMS = 50
MESSAGES = 2_000
MEMORY_ROOMS, MEMORY_MEMBERS, MEMORY_MESSAGES = 1_000, 10, 20
CHANNELS = 20_000
VISITS = 200
VISITORS = {"alone": 1, "together": 100}
# The number of nodes of a room; 0 is one process with rooms in memory.
ROOM_NODES = (0, 1, 2, 4)
ROOM_MEMBERS, ROOM_MESSAGES = 100, 200
MICROSECONDS = 1e6
PRESENT = 100
HISTORY = History(messages=100, seconds=300.0)
# Short enough to end within the measurement.
TIMING = Timing(grace_seconds=0.1)
# The chat's message for a text of 110 bytes.
TEXT = b'{"type":"serverNewMessage","payload":{"user":"Alice","text":"%s"}}' % (b"x" * 110)


class Joined(Message, frozen=True):
    """A user joined."""

    user: str


class Left(Message, frozen=True):
    """A user left."""

    user: str


class Present(Message, frozen=True):
    """The users in the room."""

    users: list[str]


class SendMessage(msgspec.Struct, frozen=True):
    """Payload of ``clientSendMessage``."""

    text: str


class NewMessage(Message, frozen=True):
    """A user sent a message."""

    user: str
    text: str


class RoomResource(WebSocketResource):
    """A room like that of the chat, without an effective rate limit."""

    history = HISTORY
    limits = Limits(messages_per_second=1e6, message_burst=1_000_000)

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, room: str) -> bool:
        """Join the room with the user of the query, and send the list of users."""
        self.connection.user = user = req.get_param("user", required=True)
        await self.join_room(room, join_message=Joined(user=user), leave_message=Left(user=user))
        await ws.send_media(Present(users=await self.manager.members(room, limit=200)))
        self.room = room
        return True

    @handles_message("clientSendMessage")
    async def send_message(self, ws: WebSocketLike, payload: SendMessage) -> None:
        """Broadcast the message to the room."""
        message = NewMessage(user=str(self.connection.user), text=payload.text)
        await self.broadcast_to_room(self.room, message)


class CountingNode:
    """A node without connections, which counts the messages of its backend."""

    def __init__(self) -> None:
        self.delivered = 0
        self.changed = asyncio.Event()

    def deliver(self, room: str, publication: Publication) -> None:
        """Count a message to a room."""
        self.delivered += 1
        self.changed.set()

    def deliver_direct(self, publication: Publication) -> None:
        """Ignore a message to a connection."""

    def on_history_lost(self, room: str) -> None:
        """Fail, because no message may be lost on one machine."""
        raise AssertionError(f"messages were lost in {room}")

    def on_resync(self, room: str) -> None:
        """Do nothing."""

    def on_members_outdated(self, room: str) -> None:
        """Do nothing."""

    def execute(self, command: Publication, room: str | None, age_seconds: float) -> None:
        """Ignore a command."""

    def on_restriction(self, entry: RestrictionEntry) -> None:
        """Ignore a restriction."""

    async def wait_until(self, count: int) -> None:
        """Wait until a number of messages have been delivered."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.delivered < count:
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def node(url: str) -> AsyncIterator[tuple[Backend, CountingNode]]:
    """Run a backend with a counting node."""
    backend, counter = backend_from_url(url), CountingNode()
    backend.node = counter
    await backend.start()
    try:
        yield backend, counter
    finally:
        await backend.stop()


def room(number: int) -> str:
    """Return the name of a room."""
    return f"room-{number}"


async def read_line() -> str:
    """Return the next line of standard input, empty at its end."""
    return await asyncio.to_thread(sys.stdin.readline)


async def subscribe(url: str) -> None:
    """Subscribe to all rooms; for each line with a number wait for so many more messages."""
    async with node(url) as (backend, counter):
        for number in range(ROOMS):
            await backend.subscribe(room(number), HISTORY)
        print("ready", flush=True)
        total = 0
        while line := await read_line():
            total += int(line)
            await counter.wait_until(total)
            print("done", flush=True)


async def publish(url: str) -> None:
    """For each line with two numbers publish so many messages, with so many in transit."""
    async with node(url) as (backend, _):
        print("ready", flush=True)
        while line := await read_line():
            count, at_once = map(int, line.split())
            for number in range(0, count, at_once):
                publishing = [
                    backend.publish_nowait(room(each % ROOMS), Publication.of_encoded(TEXT))
                    for each in range(number, number + at_once)
                ]
                for each in publishing:
                    await each
            print("done", flush=True)


def serve(url: str) -> None:
    """Serve a room like that of the chat on a free port, which is printed."""
    app = install(
        falcon.asgi.App(),
        backend=backend_from_url(url, timing=TIMING),
        server_limits=ServerLimits(**SERVER_BOUNDS),
    )
    app.add_websocket_route("/room/{room}", RoomResource)
    with socket.create_server(("127.0.0.1", 0)) as subscriptions:
        print(subscriptions.getsockname()[1], flush=True)
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_level="warning",
            http=BoundedHTTPProtocol,
            ws=PushProtocol,
            ws_per_message_deflate=False,
        )
        uvicorn.Server(config).run([subscriptions])


class RedisServer(NamedTuple):
    """A running Valkey."""

    url: str
    pid: int
    client: redis.Redis


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Run a Valkey."""
    with running_valkey() as started, redis.Redis.from_url(started.url) as client:
        yield RedisServer(started.url, started.pid, client)


@contextlib.contextmanager
def child(role: str, url: str) -> Iterator[Child]:
    """Run this program in another role."""
    command = python("-m", "tools.sizing", role, url)
    with start(role, command, ROOT, os.environ) as process:
        yield process


def measure_messages(publishers: int, at_once: int) -> dict[str, float]:
    """Measure the CPU time of publish and arrival at a node, and of publish and copy in Redis."""
    publishes, arrivals = [], []
    of_redis: dict[int, float] = {}
    share = MESSAGES // publishers
    for nodes in NODES:
        with redis_server() as server, contextlib.ExitStack() as stack:
            receivers = [stack.enter_context(child("subscribe", server.url)) for _ in range(nodes)]
            senders = [stack.enter_context(child("publish", server.url)) for _ in range(publishers)]
            for each in (*receivers, *senders):
                assert each.read_line(WAIT_SECONDS) == "ready\n"
            costs = []
            for _ in range(ROUNDS + 1):
                pids = [server.pid, *(each.pid for each in (*receivers, *senders))]
                before = [cpu_seconds(pid) for pid in pids]
                for each in receivers:
                    each.write_line(str(share * publishers))
                for each in senders:
                    each.write_line(f"{share} {at_once}")
                for each in (*receivers, *senders):
                    assert each.read_line(WAIT_SECONDS) == "done\n"
                took = zip(map(cpu_seconds, pids), before, strict=True)
                costs.append([(after - earlier) * MICROSECONDS for after, earlier in took])
            # The first round is the warm-up.
            for cost in costs[1:]:
                arrivals += [each / share / publishers for each in cost[1 : nodes + 1]]
                publishes += [each / share for each in cost[nodes + 1 :]]
            of_redis[nodes] = statistics.median(each[0] / share / publishers for each in costs[1:])
    slope, intercept = statistics.linear_regression(list(of_redis), list(of_redis.values()))
    return {
        "publish_us": statistics.median(publishes),
        "arrival_us": statistics.median(arrivals),
        "redis_publish_us": intercept,
        "redis_copy_us": slope,
    }


async def receive(client: ClientConnection) -> None:
    """Wait for the next message of a member."""
    while b"newMessage" not in await client.recv(decode=False):
        pass


async def exchange(clients: list[ClientConnection]) -> None:
    """Send from the members in rotation, each after all have received the previous message."""
    message = json.dumps({"type": "clientSendMessage", "payload": {"text": "x" * 110}})
    for number in range(ROOM_MESSAGES):
        await clients[number % len(clients)].send(message)
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.gather(*map(receive, clients))


async def measure_rooms() -> dict[str, float]:
    """Measure the CPU time of all nodes per message and member, by the number of nodes."""
    found = {}
    for nodes in ROOM_NODES:
        async with contextlib.AsyncExitStack() as stack:
            url = stack.enter_context(redis_server()).url if nodes else ""
            servers = [stack.enter_context(child("serve", url)) for _ in range(nodes or 1)]
            ports = [int(each.read_line(WAIT_SECONDS)) for each in servers]
            clients = []
            for member in range(ROOM_MEMBERS):
                address = f"ws://127.0.0.1:{ports[member % len(ports)]}/room/general?user={member}"
                clients.append(await stack.enter_async_context(connect(address, proxy=None)))
            costs = []
            for _ in range(ROUNDS + 1):
                before = sum(cpu_seconds(each.pid) for each in servers)
                await exchange(clients)
                took = sum(cpu_seconds(each.pid) for each in servers) - before
                costs.append(took / ROOM_MESSAGES / ROOM_MEMBERS * MICROSECONDS)
            name = f"{nodes}_nodes_us" if nodes else "in_memory_us"
            # The first round is the warm-up.
            found[name] = statistics.median(costs[1:])
    return found


def measure_subscription(client: redis.Redis) -> float:
    """Measure the memory of a subscribed channel, from the total that Redis reports."""
    subscriptions = client.pubsub()  # type: ignore[no-untyped-call]
    used: list[int] = []
    for channels in (["first"], [f"pachinko:{{{room(number)}}}" for number in range(CHANNELS)]):
        subscriptions.subscribe(*channels)
        for _ in channels:
            subscriptions.get_message(timeout=WAIT_SECONDS)
        used.append(client.info("memory")["used_memory"])
    subscriptions.close()
    return (used[1] - used[0]) / CHANNELS


async def measure_memory() -> dict[str, float]:
    """Measure the memory of a room, of a user in it, and of a stored message in Redis."""
    with redis_server() as server:
        subscription = measure_subscription(server.client)
        used: list[int] = []

        def record_memory() -> None:
            names = server.client.scan_iter(count=1_000)
            used.append(sum(server.client.memory_usage(name, samples=0) or 0 for name in names))

        async with node(server.url) as (backend, _):
            record_memory()
            for number in range(MEMORY_ROOMS):
                await backend.subscribe(room(number), HISTORY)
            record_memory()
            for number in range(MEMORY_ROOMS):
                for member in range(MEMORY_MEMBERS):
                    name = f"user-{number}-{member}"
                    left = Publication.of_encoded(
                        b'{"type":"serverUserLeft","payload":{"user":"%s"}}' % name.encode()
                    )
                    connection = f"{backend.node_id}-{name}"
                    await backend.enter_nowait(room(number), Presence(connection, name, None, left))
            record_memory()
            for number in range(MEMORY_ROOMS):
                for _ in range(MEMORY_MESSAGES):
                    await backend.publish_nowait(room(number), Publication.of_encoded(TEXT))
            record_memory()
    rooms, members, messages = (later - earlier for earlier, later in itertools.pairwise(used))
    return {
        "redis_room_bytes": rooms / MEMORY_ROOMS + subscription,
        "redis_member_bytes": members / MEMORY_ROOMS / MEMORY_MEMBERS,
        "redis_message_bytes": messages / MEMORY_ROOMS / MEMORY_MESSAGES,
    }


async def measure_visits(at_once: int) -> dict[str, float]:
    """Measure the CPU time of a visit to a room in a node and in Redis: the handshake, the join and the leave.

    Args:
        at_once: The number of clients that visit the room at the same time.
    """
    rounds = []
    with redis_server() as server, child("serve", server.url) as process:
        url = f"ws://127.0.0.1:{int(process.read_line(WAIT_SECONDS))}/room/general?user="
        pids = (process.pid, server.pid)
        async with node(server.url) as (backend, _):
            await backend.subscribe("general", HISTORY)
            for number in range(PRESENT):
                name = f"user-{number}"
                presence = Presence(f"{backend.node_id}-{name}", name)
                await backend.enter_nowait("general", presence)
            for number in range(ROUNDS + 1):
                before = [cpu_seconds(pid) for pid in pids]
                for first in range(0, VISITS, at_once):
                    guests = range(first, first + at_once)
                    await asyncio.gather(*(visit(f"{url}guest-{number}-{n}") for n in guests))
                took = zip(map(cpu_seconds, pids), before, strict=True)
                rounds.append([(after - earlier) / VISITS for after, earlier in took])
    # The first round is the warm-up.
    of_each = zip(*rounds[1:], strict=True)
    node_us, redis_us = (statistics.median(each) * MICROSECONDS for each in of_each)
    return {"join_us": node_us, "redis_join_us": redis_us}


async def visit(url: str) -> None:
    """Join a room and leave it."""
    async with asyncio.timeout(WAIT_SECONDS), connect(url, proxy=None) as client:
        await client.recv()


def show(title: str, figures: dict[str, float]) -> None:
    """Print figures under a title."""
    print(title)
    for name, figure in figures.items():
        print(f"    {name:<22} {figure:7.1f}", flush=True)


def main() -> None:
    """Measure and print, or run as one of the measured processes."""
    match sys.argv[1:]:
        case []:
            print(f"the servers have higher bounds than a service: {describe_bounds()}")
            for mode, how in MODES.items():
                show(f"messages {mode}", measure_messages(*how))
            show("a message to a member of a room of 100", asyncio.run(measure_rooms()))
            show("memory of Redis", asyncio.run(measure_memory()))
            for mode, at_once in VISITORS.items():
                show(f"visits {mode}", asyncio.run(measure_visits(at_once)))
        case ["subscribe", url]:
            uvloop.run(subscribe(url))
        case ["publish", url]:
            uvloop.run(publish(url))
        case ["serve", url]:
            serve(url)
        case _:
            raise SystemExit("usage: python -m tools.sizing")


if __name__ == "__main__":
    main()

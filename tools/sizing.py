"""Measures what `tools.capacity` calculates with, on this machine, in about two minutes (``make sizing``).

CPU time is user and system time of a whole process. Messages come alone (each waits for the one before, and
shares no system call and no round trip with another one) and together (two nodes have eight on their way
each, as it is where there is much to do). The engine is a real Valkey, from a wheel, on loopback. The nodes are
processes with a real backend of the framework and without clients; only for rooms and visits there are
servers and clients. It needs Linux.
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
from falcon_pachinko import (
    History,
    Limits,
    Message,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.base import Backend, Presence, Timing
from falcon_pachinko.publication import Publication
from falcon_pachinko.uvicorn import PushProtocol
from websockets.asyncio.client import ClientConnection, connect

from bench.child import Child, python, start
from bench.engine import running
from bench.measure import cpu_seconds

ROOT = Path(__file__).parents[1]
WAIT_SECONDS = 60.0
ROUNDS = 5
NODES = (1, 2, 4, 8)
# How many nodes publish, and how many messages each has on its way.
MODES = {"alone": (1, 1), "together": (2, 8)}
ROOMS = 50
MESSAGES = 2_000
MEMORY_ROOMS, MEMORY_MEMBERS, MEMORY_MESSAGES = 1_000, 10, 20
CHANNELS = 20_000
VISITS = 200
# How many nodes a room is on; 0 is one process with its rooms in memory.
ROOM_NODES = (0, 1, 2, 4)
ROOM_MEMBERS, ROOM_MESSAGES = 100, 200
MICROSECONDS = 1e6
PRESENT = (1, 501)
HISTORY = History(messages=100, seconds=300.0)
# So short that it is over while it is measured.
TIMING = Timing(grace_seconds=0.1)
# What the chat sends for a text of 110 bytes.
TEXT = b'{"type":"serverNewMessage","payload":{"user":"Alice","text":"%s"}}' % (b"x" * 110)


class Joined(Message, frozen=True):
    """Somebody has come."""

    user: str


class Left(Message, frozen=True):
    """Somebody has gone."""

    user: str


class Present(Message, frozen=True):
    """Who is there."""

    users: list[str]


class Say(msgspec.Struct, frozen=True):
    """Payload of ``clientSendMessage``."""

    text: str


class NewMessage(Message, frozen=True):
    """Somebody has said something."""

    user: str
    text: str


class RoomResource(WebSocketResource):
    """A room like the chat's; nobody is told that it is too much."""

    history = HISTORY
    limits = Limits(messages_per_second=1e6, message_burst=1_000_000)

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, room: str) -> bool:
        """Let everybody in, with the name that they give, and tell who is there."""
        self.connection.user = user = req.get_param("user", required=True)
        await self.join_room(room, join_message=Joined(user=user), leave_message=Left(user=user))
        await ws.send_media(Present(users=await self.manager.members(room)))
        self.room = room
        return True

    @handles_message("clientSendMessage")
    async def say(self, ws: WebSocketLike, payload: Say) -> None:
        """Say it to everybody in the room."""
        message = NewMessage(user=str(self.connection.user), text=payload.text)
        await self.broadcast_to_room(self.room, message)


class Counter:
    """Who is served by a backend here: nobody is connected, so what is given is counted."""

    def __init__(self) -> None:
        self.given = 0
        self.changed = asyncio.Event()

    def deliver(self, room: str, entry: Publication) -> None:
        """Count it."""
        self.given += 1
        self.changed.set()

    def deliver_direct(self, entry: Publication) -> None:
        """Nobody is here."""

    def on_history_lost(self, room: str) -> None:
        """Nothing gets lost on one machine."""
        raise AssertionError(f"something was lost in {room}")

    def on_resync(self, room: str) -> None:
        """Nobody waits for it."""

    async def wait_until(self, count: int) -> None:
        """Wait until so many have been given."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.given < count:
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def node(url: str) -> AsyncIterator[tuple[Backend, Counter]]:
    """A backend while it runs, and whom it serves."""
    backend, counter = backend_from_url(url), Counter()
    backend.node = counter
    await backend.start()
    try:
        yield backend, counter
    finally:
        await backend.stop()


def room(number: int) -> str:
    """The name of a room."""
    return f"room-{number}"


async def told() -> str:
    """The next line of standard input, empty at its end."""
    return await asyncio.to_thread(sys.stdin.readline)


async def listen(url: str) -> None:
    """Be a node with members in all rooms: for each line with a number wait until so many have come."""
    async with node(url) as (backend, counter):
        for number in range(ROOMS):
            await backend.subscribe(room(number), HISTORY)
        print("ready", flush=True)
        total = 0
        while line := await told():
            total += int(line)
            await counter.wait_until(total)
            print("done", flush=True)


async def publish(url: str) -> None:
    """Be a node that nobody is on: for each line with two numbers say so much, so many at once."""
    async with node(url) as (backend, _):
        print("ready", flush=True)
        while line := await told():
            count, at_once = map(int, line.split())
            for number in range(0, count, at_once):
                said = [
                    backend.publish(room(each % ROOMS), Publication.of_encoded(TEXT))
                    for each in range(number, number + at_once)
                ]
                for each in said:
                    await each
            print("done", flush=True)


def serve(url: str) -> None:
    """Serve a room like the chat's on a free port, which is printed."""
    app = install(falcon.asgi.App(), backend=backend_from_url(url, timing=TIMING))
    app.add_websocket_route("/room/{room}", RoomResource)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_level="warning",
            ws=PushProtocol,
            ws_per_message_deflate=False,
        )
        uvicorn.Server(config).run([listening])


class Engine(NamedTuple):
    """A Valkey that runs."""

    url: str
    pid: int
    client: redis.Redis


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Start a Valkey of its own, and stop it at the end."""
    with running() as started, redis.Redis.from_url(started.url) as client:
        yield Engine(started.url, started.pid, client)


@contextlib.contextmanager
def child(role: str, url: str) -> Iterator[Child]:
    """This program in another role."""
    command = python("-m", "tools.sizing", role, url)
    with start(role, command, ROOT, os.environ) as process:
        yield process


def measure_messages(publishers: int, at_once: int) -> dict[str, float]:
    """CPU of a publish and of an arrival at a node, and of a publish and of each copy in the engine."""
    publishes, arrivals = [], []
    of_engine: dict[int, float] = {}
    share = MESSAGES // publishers
    for nodes in NODES:
        with engine() as server, contextlib.ExitStack() as stack:
            listeners = [stack.enter_context(child("listen", server.url)) for _ in range(nodes)]
            speakers = [
                stack.enter_context(child("publish", server.url)) for _ in range(publishers)
            ]
            for each in (*listeners, *speakers):
                assert each.listen(WAIT_SECONDS) == "ready\n"
            costs = []
            for _ in range(ROUNDS + 1):
                pids = [server.pid, *(each.pid for each in (*listeners, *speakers))]
                before = [cpu_seconds(pid) for pid in pids]
                for each in listeners:
                    each.tell(str(share * publishers))
                for each in speakers:
                    each.tell(f"{share} {at_once}")
                for each in (*listeners, *speakers):
                    assert each.listen(WAIT_SECONDS) == "done\n"
                took = zip(map(cpu_seconds, pids), before, strict=True)
                costs.append([(after - earlier) * MICROSECONDS for after, earlier in took])
            # The first round warms up.
            for cost in costs[1:]:
                arrivals += [each / share / publishers for each in cost[1 : nodes + 1]]
                publishes += [each / share for each in cost[nodes + 1 :]]
            of_engine[nodes] = statistics.median(each[0] / share / publishers for each in costs[1:])
    # The straight line nearest to the points.
    rise, begin = statistics.linear_regression(list(of_engine), list(of_engine.values()))
    return {
        "publish_us": statistics.median(publishes),
        "arrival_us": statistics.median(arrivals),
        "engine_publish_us": begin,
        "engine_copy_us": rise,
    }


async def hear(client: ClientConnection) -> None:
    """Wait until a member has heard the next message."""
    while b"newMessage" not in await client.recv(decode=False):
        pass


async def talk(clients: list[ClientConnection]) -> None:
    """Members say something by turns; each waits until all have heard the one before."""
    said = json.dumps({"type": "clientSendMessage", "payload": {"text": "x" * 110}})
    for number in range(ROOM_MESSAGES):
        await clients[number % len(clients)].send(said)
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.gather(*map(hear, clients))


async def measure_rooms() -> dict[str, float]:
    """CPU of all nodes together for each message to each of the members of a room, by the number of nodes."""
    found = {}
    for nodes in ROOM_NODES:
        async with contextlib.AsyncExitStack() as stack:
            url = stack.enter_context(engine()).url if nodes else ""
            servers = [stack.enter_context(child("serve", url)) for _ in range(nodes or 1)]
            ports = [int(each.listen(WAIT_SECONDS)) for each in servers]
            clients = []
            for member in range(ROOM_MEMBERS):
                address = f"ws://127.0.0.1:{ports[member % len(ports)]}/room/general?user={member}"
                clients.append(await stack.enter_async_context(connect(address, proxy=None)))
            costs = []
            for _ in range(ROUNDS + 1):
                before = sum(cpu_seconds(each.pid) for each in servers)
                await talk(clients)
                took = sum(cpu_seconds(each.pid) for each in servers) - before
                costs.append(took / ROOM_MESSAGES / ROOM_MEMBERS * MICROSECONDS)
            name = f"{nodes}_nodes_us" if nodes else "in_memory_us"
            # The first round warms up.
            found[name] = statistics.median(costs[1:])
    return found


def measure_subscription(client: redis.Redis) -> float:
    """What the engine holds for a channel that is listened to; of that it says no more than how much is used."""
    listening = client.pubsub()  # type: ignore[no-untyped-call]
    used: list[int] = []
    for channels in (["first"], [f"pachinko:{{{room(number)}}}" for number in range(CHANNELS)]):
        listening.subscribe(*channels)
        for _ in channels:
            listening.get_message(timeout=WAIT_SECONDS)
        used.append(client.info("memory")["used_memory"])
    listening.close()
    return (used[1] - used[0]) / CHANNELS


async def measure_memory() -> dict[str, float]:
    """What the engine holds for a room, for a user in it, and for a message that it keeps."""
    with engine() as server:
        subscription = measure_subscription(server.client)
        held: list[int] = []

        def look() -> None:
            names = server.client.scan_iter(count=1_000)
            held.append(sum(server.client.memory_usage(name, samples=0) or 0 for name in names))

        async with node(server.url) as (backend, _):
            look()
            for number in range(MEMORY_ROOMS):
                await backend.subscribe(room(number), HISTORY)
            look()
            for number in range(MEMORY_ROOMS):
                for member in range(MEMORY_MEMBERS):
                    name = f"user-{number}-{member}"
                    left = Publication.of_encoded(
                        b'{"type":"serverUserLeft","payload":{"user":"%s"}}' % name.encode()
                    )
                    connection = f"{backend.node_id}-{name}"
                    await backend.enter(room(number), Presence(connection, name, None, left))
            look()
            for number in range(MEMORY_ROOMS):
                for _ in range(MEMORY_MESSAGES):
                    await backend.publish(room(number), Publication.of_encoded(TEXT))
            look()
    rooms, members, messages = (later - earlier for earlier, later in itertools.pairwise(held))
    return {
        "engine_room_bytes": rooms / MEMORY_ROOMS + subscription,
        "engine_member_bytes": members / MEMORY_ROOMS / MEMORY_MEMBERS,
        "engine_message_bytes": messages / MEMORY_ROOMS / MEMORY_MESSAGES,
    }


async def measure_visits() -> dict[str, float]:
    """CPU of a node and of the engine for a client that comes and goes, and more for each user who is there."""
    costs: dict[int, list[float]] = {}
    for present in PRESENT:
        with engine() as server, child("serve", server.url) as process:
            url = f"ws://127.0.0.1:{int(process.listen(WAIT_SECONDS))}/room/general?user="
            pids = (process.pid, server.pid)
            rounds = []
            async with node(server.url) as (backend, _):
                await backend.subscribe("general", HISTORY)
                for number in range(present):
                    name = f"user-{number}"
                    await backend.enter("general", Presence(f"{backend.node_id}-{name}", name))
                for turn in range(ROUNDS + 1):
                    before = [cpu_seconds(pid) for pid in pids]
                    for visit in range(VISITS):
                        async with (
                            asyncio.timeout(WAIT_SECONDS),
                            connect(f"{url}guest-{turn}-{visit}", proxy=None) as client,
                        ):
                            await client.recv()
                    took = zip(map(cpu_seconds, pids), before, strict=True)
                    rounds.append([(after - earlier) / VISITS for after, earlier in took])
            # The first round warms up.
            of_each = zip(*rounds[1:], strict=True)
            costs[present] = [statistics.median(each) * MICROSECONDS for each in of_each]
    few, many = PRESENT
    rises = [
        (more - less) / (many - few) for less, more in zip(costs[few], costs[many], strict=True)
    ]
    return {
        "join_us": costs[few][0],
        "join_member_us": rises[0],
        "engine_join_us": costs[few][1],
        "engine_join_member_us": rises[1],
    }


def show(title: str, figures: dict[str, float]) -> None:
    """Print figures."""
    print(title)
    for name, figure in figures.items():
        print(f"    {name:<22} {figure:7.1f}", flush=True)


def main() -> None:
    """Measure and print, or be one of the processes that are measured."""
    match sys.argv[1:]:
        case []:
            for mode, how in MODES.items():
                show(f"messages {mode}", measure_messages(*how))
            show("a message to each of a room of 100", asyncio.run(measure_rooms()))
            show("memory of the engine", asyncio.run(measure_memory()))
            show("a client that comes and goes", asyncio.run(measure_visits()))
        case ["listen", url]:
            uvloop.run(listen(url))
        case ["publish", url]:
            uvloop.run(publish(url))
        case ["serve", url]:
            serve(url)
        case _:
            raise SystemExit("usage: python -m tools.sizing")


if __name__ == "__main__":
    main()

"""A node of the model test: a backend over a link that can fail, with clients that keep a view of their room."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.restriction_entry import RestrictionEntry
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.history import History
from falcon_pachinko.publication import Publication

from ..support.faulty_proxy import FaultyProxy
from .model import Read, Received, Record, Stay, Subscription

HISTORIES: dict[str, History | None] = {"a": History(messages=50, seconds=60.0), "b": None}


def make_timing(**seconds: float) -> Timing:
    """Create a Timing of those fields that exist in this version."""
    names = {field.name for field in dataclasses.fields(Timing)}
    return Timing(**{name: value for name, value in seconds.items() if name in names})


def now() -> float:
    """Return the time of the event loop."""
    return asyncio.get_running_loop().time()


@dataclass(eq=False)
class Client:
    """A connection in a room.

    Attributes:
        view: The users that it believes to be in the room; ``None`` before its first list.
        reads: The number of its lists, those included that are being read.
        joining: The task in which it joins.
    """

    stay: Stay
    presence: Presence
    view: set[str] | None = None
    reads: int = 0
    joining: asyncio.Task[None] = field(init=False)


class ModelNode:
    """A backend, its clients and the record of its callbacks.

    Attributes:
        number: Its number in the record.
        link: Its link to Redis.
        clients: The connections that are in a room or join it, and have not left it.
        subscriptions: For each room the number of subscriptions and the record of them.
        is_alive: Whether it has not been killed: a killed node delivers nothing.
        tasks: The tasks of its clients.
    """

    def __init__(
        self, number: int, link: FaultyProxy, prefix: str, timing: Timing, record: Record
    ) -> None:
        self.number = number
        self.link = link
        self.record = record
        url = f"redis://127.0.0.1:{link.port}/0"
        self.backend = backend_from_url(url, prefix=prefix, timing=timing)
        self.backend.node = self
        self.clients: list[Client] = []
        self.subscriptions: dict[str, tuple[int, Subscription]] = {}
        self.is_alive = True
        self.tasks: set[asyncio.Task[Any]] = set()

    # The callbacks of the backend.

    def deliver(self, room: str, publication: Publication) -> None:
        """Record a delivery, and apply a join or leave to the views."""
        if not self.is_alive:
            return
        message = json.loads(publication.data)
        kind, user = message["type"], message.get("user", "")
        self.record.received.append(
            Received(now(), self.number, room, kind, message["name"], user, publication.position)
        )
        for client in self.clients:
            if client.stay.room == room and client.view is not None:
                if kind == "joined":
                    client.view.add(user)
                elif kind == "left":
                    client.view.discard(user)

    def deliver_direct(self, publication: Publication) -> None:
        """Record a delivery to all connections."""
        if self.is_alive:
            name = json.loads(publication.data)["name"]
            self.record.received.append(Received(now(), self.number, "", "message", name))

    def on_history_lost(self, room: str) -> None:
        """Record a loss."""
        if self.is_alive:
            self.record.losses.append((now(), self.number, room))
            self.on_members_outdated(room)

    def execute(self, command: Publication, room: str | None, age_seconds: float) -> None:
        """Do nothing: the model has no commands."""

    def on_restriction(self, entry: RestrictionEntry) -> None:
        """Do nothing: the bans are read from the backend."""

    def on_members_outdated(self, room: str) -> None:
        """Let the clients of a room read a new list."""
        if self.is_alive:
            for client in self.clients:
                if client.stay.room == room:
                    self.spawn(self.read_view(client))

    def on_resync(self, room: str) -> None:
        """Let the clients of a room read a new list."""
        if not self.is_alive:
            return
        self.record.resyncs.append((now(), self.number, room))
        if room in self.subscriptions:
            subscription = self.subscriptions[room][1]
            subscription.since = subscription.since or now()
        self.on_members_outdated(room)

    # The clients.

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run a coroutine until it ends or the node is killed."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        return task

    async def subscribe(self, room: str) -> None:
        """Subscribe to a room."""
        await self.backend.subscribe(room, HISTORIES[room])
        count, subscription = self.subscriptions.get(room, (0, None))
        if subscription is None:
            subscription = Subscription(self.number, room, None)
            self.record.subscriptions.append(subscription)
        if subscription.since is None and not self.backend.outage:
            subscription.since = now()
        self.subscriptions[room] = (count + 1, subscription)

    def unsubscribe(self, room: str) -> None:
        """Undo one :meth:`subscribe`."""
        count, subscription = self.subscriptions[room]
        if count == 1:
            subscription.until = now()
            del self.subscriptions[room]
        else:
            self.subscriptions[room] = (count - 1, subscription)
        self.backend.unsubscribe(room)

    def join(self, connection: str, user: str, room: str) -> Client:
        """Open a connection in a room; return it while it joins."""
        name = {"user": user, "name": connection}
        client = Client(
            Stay(self.number, room, user, connection, now()),
            Presence(
                connection,
                user,
                Publication({"type": "joined", **name}),
                Publication({"type": "left", **name}),
            ),
        )
        self.record.stays.append(client.stay)
        client.joining = self.spawn(self.enter(client))
        return client

    async def enter(self, client: Client) -> None:
        """Subscribe, enter, and read the list."""
        await self.subscribe(client.stay.room)
        self.clients.append(client)
        await self.backend.enter_nowait(client.stay.room, client.presence)
        client.stay.entered = now()
        await self.read_view(client)

    async def read_view(self, client: Client) -> None:
        """Read a client's list; the deliveries after it are applied to it. A list that is older is ignored."""
        client.reads += 1
        number = client.reads
        page = await self.backend.members(client.stay.room)
        if number == client.reads:
            client.view = set(page)

    def leave(self, client: Client, *, grace: bool) -> asyncio.Task[Any]:
        """Close a connection, once it has joined."""

        async def leave() -> None:
            await asyncio.wait({client.joining})
            self.clients.remove(client)
            client.stay.ended, client.stay.grace = now(), grace
            left = self.backend.leave_nowait(client.stay.room, client.presence, grace=grace)
            self.unsubscribe(client.stay.room)
            await left

        return self.spawn(leave())

    async def read_members(self, room: str) -> None:
        """Read and record the list of a room."""
        called = now()
        users = list(await self.backend.members(room))
        outage = bool(self.backend.outage)
        self.record.reads.append(Read(called, now(), self.number, room, users, outage))

    def kill(self) -> None:
        """Cut the node off for good, without a message to Redis; its clients are gone."""
        self.is_alive = False
        cut(self.link, silent=False)
        for task in self.tasks:
            task.cancel()
        for stay in self.record.stays:
            if stay.node == self.number and stay.ended is None:
                stay.ended, stay.killed = now(), True
        self.clients.clear()
        self.record.live.discard(self.number)
        self.record.killed.add(self.number)

    # The comparison at the end.

    async def differences(self, truth: dict[str, set[str]]) -> list[str]:
        """Return how this node's lists and its clients' views differ from the true ones."""
        found = [
            f"P4: {client.stay.connection} in room {client.stay.room!r} on node {self.number} sees"
            f" {client.view and sorted(client.view)}, not {sorted(truth[client.stay.room])}"
            for client in self.clients
            if client.view != truth[client.stay.room]
        ]
        for room, users in truth.items():
            members = list(await self.backend.members(room))
            count = await self.backend.occupancy(room)
            if sorted(members) != sorted(users) or count != len(users):
                found.append(
                    f"P5: room {room!r} on node {self.number} has {sorted(members)} ({count}), not"
                    f" {sorted(users)}"
                )
            for user in users:
                if not await self.backend.present(room, user):
                    found.append(f"P5: {user!r} is not present in {room!r} on node {self.number}")
        rooms = await self.backend.rooms("")
        expected = sorted(room for room, users in truth.items() if users)
        if rooms != expected:
            found.append(f"P5: rooms('') on node {self.number} are {rooms}, not {expected}")
        return found


def cut(link: FaultyProxy, *, silent: bool) -> None:
    """Hold back the data of a link, and unless ``silent`` reset its connections."""
    link.to_server.clear()
    link.to_node.clear()
    if not silent:
        link.reset_connections()

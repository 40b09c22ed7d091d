"""Clients that keep a list of a room are right after any sequence of joins, leaves, lists and batches.

The sequences are random, from fixed seeds. The clock is virtual.
"""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.presence import PresenceBatch

from ..support.backends import RecordingNode, announced
from ..support.virtual_transport import SteppedLoop

BATCH = PresenceBatch(above=3, seconds=0.25)
GRACE_SECONDS = 0.1
# Eight users with two tabs each.
CONNECTIONS = [f"{user}{tab}" for user in "abcdefgh" for tab in "12"]
STEPS = 400


class Client:
    """A client that has got a list of names and a number, and receives the messages after it."""

    def __init__(self, names: list[str], count: int) -> None:
        self.names = set(names)
        self.count = count

    def receive(self, text: str) -> None:
        if not text.startswith("{"):
            user, verb = text.split()
            (self.names.add if verb == "joined" else self.names.discard)(user)
            self.count = len(self.names)
            return
        change = json.loads(text)["payload"]
        users = {
            field: {user["user"] for user in change[field]}
            for field in ("joined", "left", "users")
            if field in change
        }
        self.names = users.get("users", (self.names - users["left"]) | users["joined"])
        self.count = change["count"]


class Room:
    """A room, its open connections, and clients that have asked for its users."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.backend = MemoryBackend(Timing(grace_seconds=GRACE_SECONDS))
        self.backend.node = self.node = RecordingNode(self.backend)
        self.open: set[str] = set()
        self.clients: list[Client] = []

    def presence_of(self, connection: str) -> Presence:
        presence = announced(connection, connection[0])
        presence.batch = BATCH
        return presence

    async def step(self) -> None:
        """Change something or wait, at random; then pass the new messages to the clients."""
        kind = self.random.choices(["join", "leave", "list", "wait"], [6, 5, 3, 4])[0]
        if kind == "join":
            for connection in self.random.sample(CONNECTIONS, self.random.randint(1, 5)):
                self.open.add(connection)
                await self.backend.enter_nowait("room", self.presence_of(connection))
        elif kind == "leave" and self.open:
            count = self.random.randint(1, len(self.open))
            grace = self.random.random() < 0.3
            for connection in self.random.sample(sorted(self.open), count):
                self.open.discard(connection)
                await self.backend.leave_nowait("room", self.presence_of(connection), grace=grace)
        elif kind == "list":
            limit = self.random.choice([None, BATCH.above])
            page = await self.backend.members("room", None, limit)
            self.clients.append(Client(page, page.total))
        elif kind == "wait":
            await asyncio.sleep(self.random.choice([0.05, GRACE_SECONDS, BATCH.seconds]))
        self.pass_messages_on()

    def pass_messages_on(self) -> None:
        for text in self.node.texts("room"):
            for client in self.clients:
                client.receive(text)
        self.node.publications.clear()

    async def check(self) -> None:
        """Check what the clients know once all changes are announced."""
        await asyncio.sleep(GRACE_SECONDS + 2 * BATCH.seconds)
        self.pass_messages_on()
        present = {connection[0] for connection in self.open}
        assert {*await self.backend.members("room")} == present
        for client in self.clients:
            assert client.count == len(present)
            assert client.names <= present
            if len(present) <= BATCH.above:
                assert client.names == present
        self.clients.clear()


@pytest.mark.parametrize("seed", range(20))
def test_clients_know_the_users_after_any_sequence_of_changes(seed: int) -> None:
    loop = SteppedLoop()

    async def run() -> None:
        room = Room(seed)
        await room.backend.subscribe("room", None)
        for number in range(STEPS):
            await room.step()
            if number % 12 == 0:
                await room.check()
        await room.backend.stop()

    loop.run_until_complete(run())
    loop.close()
    assert loop.failures == []

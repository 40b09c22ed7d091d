"""1,000 messages with 100 cuts: none is lost, duplicated or reordered, in the store and for a reader.

The client follows the rules of ``realtime.js`` for a request with ``once``; the reader those of the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from ..conftest import WAIT_SECONDS, token_of
from ..postgres import running_postgres
from ..valkey import Valkey, running_valkey

if TYPE_CHECKING:
    from ..conftest import Server

MESSAGES, CUTS = 1_000, 100
SEED = 19
REQUEST_SECONDS = 60.0
# Errors after which realtime.js sends a request with once again.
RETRIED = {"unavailable", "tooManyMessages", "timeout"}
RETRY_SECONDS = 0.02
# A request takes 2 to 5 ms: a cut hits any of its steps.
CUT_WITHIN_SECONDS = 0.006
TEXTS = "SELECT text FROM messages ORDER BY id"
LOST = (OSError, EOFError, TimeoutError, WebSocketException)


class Service:
    """The nodes of the service, which are killed and replaced."""

    def __init__(
        self,
        start: Callable[..., Server],
        variables: dict[str, str],
        nodes: int,
        rng: random.Random,
    ) -> None:
        self.start = start
        self.variables = variables
        self.rng = rng
        self.nodes = [start(**variables) for _ in range(nodes)]
        for node in self.nodes:
            node.wait_serving()

    def url(self) -> str:
        """The address of any node that has not been killed."""
        running = [node.ws_url for node in self.nodes if node.process.poll() is None]
        return self.rng.choice(running) if running else "ws://127.0.0.1:1"

    async def kill(self) -> None:
        """Kill a node, and start another one in its place."""
        place = self.rng.randrange(len(self.nodes))
        self.nodes[place].process.send_signal(signal.SIGKILL)
        await self.nodes[place].wait_ended()
        started = self.start(**self.variables)
        await asyncio.to_thread(started.wait_serving)
        self.nodes[place] = started


class Visitor:
    """A client that reconnects, in one room."""

    def __init__(self, name: str, service: Service, room: str) -> None:
        self.headers = {"Authorization": f"Bearer {token_of(name, seconds=600)}"}
        self.service = service
        self.room = room
        self.socket: ClientConnection | None = None

    def query(self) -> str:
        raise NotImplementedError

    async def open(self) -> ClientConnection:
        """Return the connection, or a new one."""
        if self.socket is None:
            url = f"{self.service.url()}/{self.room}?{self.query()}"
            self.socket = await connect(
                url,
                additional_headers=self.headers,
                ping_interval=None,
                compression=None,
                proxy=None,
            )
        return self.socket

    def cut(self) -> None:
        """Abort the connection; what has been written may arrive or not."""
        if self.socket is not None:
            self.socket.transport.abort()

    async def lose(self) -> None:
        """Forget a connection that is lost."""
        await self.aclose()
        await asyncio.sleep(RETRY_SECONDS)

    async def aclose(self) -> None:
        """Abort the connection, and wait for its end."""
        socket, self.socket = self.socket, None
        if socket is not None:
            socket.transport.abort()
            await socket.wait_closed()


class Writer(Visitor):
    """Sends one message after the other, each until it is answered."""

    def __init__(self, name: str, service: Service, room: str, client_id: str) -> None:
        super().__init__(name, service, room)
        self.client_id = client_id
        self.sent = 0

    def query(self) -> str:
        return f"client={self.client_id}"

    async def request(self, ref: str, text: str) -> Any:
        """Send a message, over as many connections as it takes, and return its reply."""
        message = {"type": "clientSendMessage", "payload": {"text": text}, "ref": ref}
        async with asyncio.timeout(REQUEST_SECONDS):
            while True:
                try:
                    socket = await self.open()
                    self.sent += 1
                    await socket.send(json.dumps(message))
                    while (reply := json.loads(await socket.recv())).get("ref") != ref:
                        pass
                except LOST:
                    await self.lose()
                    continue
                if reply["type"] != "serverError" or reply["payload"]["code"] not in RETRIED:
                    return reply
                await asyncio.sleep(RETRY_SECONDS)


class Reader(Visitor):
    """Shows the messages of a room as the page does: missed ones from the history, lost ones from the store."""

    def __init__(self, name: str, service: Service, room: str) -> None:
        super().__init__(name, service, room)
        self.positions: dict[str, int] = {}
        self.connections: list[str] = []
        self.shown: list[tuple[str, str]] = []
        self.repeated = 0
        self.gaps = 0
        self.known_id = ""
        self.changed = asyncio.Event()

    def query(self) -> str:
        since = [f"since={epoch}:{offset}" for epoch, offset in self.positions.items()]
        return "&".join(since + [f"connection={each}" for each in self.connections[-4:]])

    async def run(self) -> None:
        """Receive until cancelled."""
        while True:
            try:
                socket = await self.open()
                while True:
                    await self.receive(socket, json.loads(await socket.recv()))
            except LOST:
                await self.lose()

    async def receive(self, socket: ClientConnection, message: Any) -> None:
        kind, payload = message["type"], message["payload"]
        epoch, _, offset = message.get("id", "").partition(":")
        if offset:
            if kind != "serverPosition" and int(offset) <= self.positions.get(epoch, -1):
                return
            self.positions[epoch] = int(offset)
        if kind == "serverNewMessage":
            self.show(payload["messageId"], payload["text"])
        elif kind == "serverPosition":
            if "connection" in payload:
                self.connections.append(payload["connection"])
            if payload.get("recovered") is not True and "connection" in payload:
                self.gaps += 1
                self.known_id = self.shown[-1][0] if self.shown else ""
                await self.load(socket, {})
        elif kind == "serverHistory":
            page = [(each["messageId"], each["text"]) for each in payload["messages"]]
            self.shown = sorted({*self.shown, *page})
            self.changed.set()
            if payload["hasMore"] and page[0][0] > self.known_id:
                await self.load(socket, {"before": page[0][0]})
        elif kind == "serverError":
            await asyncio.sleep(RETRY_SECONDS)
            await self.load(socket, {})

    async def load(self, socket: ClientConnection, payload: dict[str, str]) -> None:
        await socket.send(json.dumps({"type": "clientLoadHistory", "payload": payload}))

    def show(self, message_id: str, text: str) -> None:
        """Add a message at the end, unless it is shown."""
        if any(shown == message_id for shown, _ in reversed(self.shown)):
            self.repeated += 1
            return
        self.shown.append((message_id, text))
        self.changed.set()

    async def wait_shown(self, text: str) -> None:
        """Wait until a message is shown."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not any(shown == text for _, shown in reversed(self.shown)):
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def visiting(writer: Writer, reader: Reader) -> AsyncIterator[None]:
    """Run the reader, whose own failure ends the test, and close both connections at the end."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(reader.run())
            yield
            task.cancel()
    finally:
        await writer.aclose()
        await reader.aclose()


def stored_in_sqlite(folder: Path) -> list[str]:
    """Return the texts in the store of the service, in order."""
    [path] = folder.rglob("messages.db")
    with contextlib.closing(sqlite3.connect(path)) as database:
        return [text for (text,) in database.execute(TEXTS)]


def stored_in_postgresql(url: str) -> list[str]:
    """Return the texts in a database, in order."""
    with psycopg.connect(url) as connection:
        return [text for (text,) in connection.execute(TEXTS)]


async def send_with_cuts(
    writer: Writer, cuts: Sequence[Callable[[], Awaitable[None]]], rng: random.Random
) -> list[str]:
    """Send all messages, one in ten of them with a cut at a random moment; return their texts."""
    texts = [f"message {number}" for number in range(MESSAGES)]
    for number, text in enumerate(texts):
        async with asyncio.TaskGroup() as group:
            if number % (MESSAGES // CUTS) == 5:
                group.create_task(later(cuts[number * CUTS // MESSAGES], rng))
            reply = await writer.request(str(number), text)
        assert reply == {"type": "serverAck", "payload": {}, "ref": str(number)}
    return texts


async def later(cut: Callable[[], Awaitable[None]], rng: random.Random) -> None:
    await asyncio.sleep(rng.uniform(0, CUT_WITHIN_SECONDS))
    await cut()


async def check(
    service: Service,
    faults: Sequence[Callable[[], Awaitable[None]]],
    rng: random.Random,
    stored: Callable[[], list[str]],
    room: str,
) -> None:
    """Send with the faults and, up to 100, with cut connections, and count the messages.

    Args:
        service: The nodes.
        faults: The faults beside those of connections.
        rng: Chooses the moments of the faults.
        stored: Returns the texts in the store.
        room: The room.
    """
    writer = Writer("Alice", service, room, f"{rng.getrandbits(128):032x}")
    reader = Reader("Bob", service, room)

    async def cut() -> None:
        (writer if rng.random() < 0.9 else reader).cut()

    cuts: list[Callable[[], Awaitable[None]]] = [*faults, *[cut] * (CUTS - len(faults))]
    rng.shuffle(cuts)
    async with visiting(writer, reader):
        texts = await send_with_cuts(writer, cuts, rng)
        await reader.wait_shown(texts[-1])
    print(f"sent {writer.sent}, repeated {reader.repeated}, read from the store {reader.gaps}")
    assert stored() == texts
    assert [text for _, text in reader.shown] == texts


@pytest.mark.timeout(180)
async def test_a_process_with_sqlite(
    start: Callable[..., Server], tmp_path: Path, room: str
) -> None:
    rng = random.Random(SEED)
    service = Service(start, {}, 1, rng)
    await check(service, [service.kill] * 5, rng, lambda: stored_in_sqlite(tmp_path), room)


@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.timeout(180)
async def test_two_nodes_with_valkey_and_postgresql(
    start: Callable[..., Server], room: str
) -> None:
    rng = random.Random(SEED)
    with running_valkey() as valkey, running_postgres() as postgres:
        url = postgres.new_database()
        variables = {
            "APP_BACKEND_URL": valkey.url,
            "APP_DATABASE_URL": url,
            "APP_PRESENCE_EXPIRY_SECONDS": "1.5",
            "APP_PRESENCE_GRACE_SECONDS": "0.3",
        }
        service = Service(start, variables, 2, rng)

        async def restart() -> None:
            await asyncio.to_thread(valkey.restart)

        async def pause() -> None:
            await pause_for(valkey, rng.uniform(0.1, 0.4))

        faults = [*[service.kill] * 4, *[restart] * 3, *[pause] * 5]
        await check(service, faults, rng, lambda: stored_in_postgresql(url), room)


async def pause_for(valkey: Valkey, seconds: float) -> None:
    """Stop a server for a time; it keeps its data and its connections."""
    valkey.process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        valkey.process.send_signal(signal.SIGCONT)

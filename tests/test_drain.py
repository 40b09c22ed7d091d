"""A node that stops is drained unnoticed: nodes, nginx and Valkey as the real programs, clients like the browser's.

``DRAIN_CLIENTS=2000`` repeats it at full size.
"""

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .support.cluster import Node
from .support.http_requests import request
from .support.load_balancer import running_nginx
from .support.processes import DEVELOPMENT, WAIT_SECONDS, listens, running, wait_until
from .test_scaling import FIND_VALKEY

CLIENTS = int(os.environ.get("DRAIN_CLIENTS", "200"))
MEMBERS_PER_ROOM = 10
BOUND_SECONDS = 300
SERVICE_RESTART = 1012
DELAY_SECONDS, GRACE_SECONDS = 1.0, 5.0
# As many per second as the default of production.
DRAIN_SECONDS = max(2.0, CLIENTS / 2 / 100)
LONGEST_RETRY_SECONDS = 2.5
SETTINGS = {
    **DEVELOPMENT,
    "APP_DRAIN_DELAY_SECONDS": str(DELAY_SECONDS),
    "APP_DRAIN_SECONDS": str(DRAIN_SECONDS),
    "APP_PRESENCE_GRACE_SECONDS": str(GRACE_SECONDS),
    # All clients have one address.
    "APP_MAX_CONNECTIONS_PER_ADDRESS": "10000",
    "APP_HANDSHAKES_PER_SECOND": "10000",
    "APP_HANDSHAKE_BURST": "10000",
    "APP_LOG_LEVEL": "warning",
}


class Client:
    """A user in a room, that reconnects by the rules of realtime.js."""

    def __init__(self, number: int, node_port: int) -> None:
        self.user = f"user{number}"
        self.room = f"room{number // MEMBERS_PER_ROOM}"
        response = request(node_port, "POST", "/session", {"name": self.user})
        assert response.status == 201, response
        self.token = json.loads(response.body)["token"]
        self.received: list[dict[str, Any]] = []
        self.since: str | None = None
        self.connection: str | None = None
        self.ends: list[tuple[float, int | None, str]] = []
        self.returned_at: list[float] = []
        self.refusals = 0
        self.is_open = asyncio.Event()
        self.socket: ClientConnection

    async def run(self, node_port: int, port: int) -> None:
        """Connect to a node, receive, and reconnect to another port until cancelled."""
        while True:
            await self.connect(port if self.ends else node_port)
            try:
                while True:
                    self.take(json.loads(await self.socket.recv()))
            except ConnectionClosed:
                self.is_open.clear()
            code, reason = self.socket.close_code, self.socket.close_reason or ""
            self.ends.append((time.monotonic(), code, reason))
            found = re.fullmatch(r"retry=(\d+\.\d)", reason)
            await asyncio.sleep(float(found[1]) if found else 0.5)

    async def connect(self, port: int) -> None:
        known = {"since": self.since, "connection": self.connection}
        query = urllib.parse.urlencode({name: value for name, value in known.items() if value})
        while True:
            try:
                self.socket = await connect(
                    f"ws://127.0.0.1:{port}/ws/chat/{self.room}?{query}",
                    additional_headers={"Authorization": f"Bearer {self.token}"},
                    open_timeout=WAIT_SECONDS,
                    ping_interval=None,
                    proxy=None,
                )
                return
            except (InvalidStatus, OSError):
                self.refusals += 1
                await asyncio.sleep(0.2)

    def take(self, message: dict[str, Any]) -> None:
        self.received.append(message)
        self.since = message.get("id", self.since)
        if message["type"] == "serverPosition" and "connection" in message["payload"]:
            self.connection = message["payload"]["connection"]
            self.returned_at.append(time.monotonic())
            self.is_open.set()

    async def send_text(self, text: str) -> None:
        message = {"type": "clientSendMessage", "payload": {"text": text}}
        await self.socket.send(json.dumps(message))

    def payloads(self, message_type: str) -> list[dict[str, Any]]:
        return [each["payload"] for each in self.received if each["type"] == message_type]

    @property
    def texts(self) -> list[str]:
        return [each["text"] for each in self.payloads("serverNewMessage")]


@pytest.fixture
def valkey_url(
    project_python: Path,
    free_port: Callable[[], int],
    run: Callable[..., str],
    environment: dict[str, str],
    tmp_path: Path,
) -> Iterator[str]:
    binary = run(tmp_path, project_python, "-c", FIND_VALKEY).strip()
    port = free_port()
    command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(tmp_path)]  # fmt: skip
    with running(command, tmp_path, environment) as process:
        wait_until(lambda: listens(port), process, tmp_path / "valkey-server.log")
        yield f"redis://127.0.0.1:{port}"


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_node_is_drained_unnoticed(
    nginx: str,
    valkey_url: str,
    baked: Callable[..., Path],
    project_python: Path,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project = baked()
    own = {"PYTHONPATH": str(project / "src"), "APP_BACKEND_URL": valkey_url, **SETTINGS}
    own["APP_DATABASE_URL"] = f"sqlite:///{tmp_path}/messages.db"
    command = [str(project_python), "-u", "-m", "chat_service"]
    nodes = [Node(number, free_port(), command, tmp_path, environment | own) for number in range(2)]
    with contextlib.ExitStack() as stack:
        drained, _ = [stack.enter_context(node.running()) for node in nodes]
        # The configuration has three nodes: the one that stays is two of them.
        ports = [nodes[0].port, nodes[1].port, nodes[1].port]
        port = stack.enter_context(
            running_nginx(
                ports,
                nginx=nginx,
                project=project,
                folder=tmp_path,
                port=free_port(),
                environment=environment,
            )
        )
        with ThreadPoolExecutor(4) as pool:
            clients = list(pool.map(lambda number: Client(number, nodes[1].port), range(CLIENTS)))
        asyncio.run(drain_and_check(clients, port, nodes, drained))
    assert "Traceback" not in nodes[0].log.read_text("utf-8")


async def drain_and_check(
    clients: list[Client], port: int, nodes: list[Node], process: subprocess.Popen[bytes]
) -> None:
    """One half of each room is on the node that is drained, while the other half goes on talking."""
    moved, staying = clients[0::2], clients[1::2]
    speakers = staying[:: MEMBERS_PER_ROOM // 2]
    sent: dict[str, list[str]] = {each.room: [] for each in speakers}
    assert len(sent) == len(speakers) == CLIENTS // MEMBERS_PER_ROOM

    async def talk(speaker: Client) -> None:
        for number in itertools.count():
            sent[speaker.room].append(text := f"{speaker.room}: {number}")
            await speaker.send_text(text)
            await asyncio.sleep(0.5)

    async with asyncio.timeout(BOUND_SECONDS / 2), asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run(nodes[0].port, port)) for each in moved]
        tasks += [group.create_task(each.run(nodes[1].port, port)) for each in staying]
        for each in clients:
            await each.is_open.wait()
        await asyncio.sleep(GRACE_SECONDS)  # so that all joins have been announced
        before = [len(each.received) for each in staying]
        talking = [group.create_task(talk(each)) for each in speakers]
        await until(lambda: all(each.texts for each in clients))

        signalled = time.monotonic()
        process.send_signal(signal.SIGTERM)
        await until(lambda: not_ready(nodes[0].port))
        assert time.monotonic() - signalled < DELAY_SECONDS
        assert all(not each.ends for each in clients), "the port accepts, and nobody is closed"
        await until(lambda: all(len(each.returned_at) == 2 for each in moved))
        await until(lambda: process.poll() is not None)
        # Longer than any user would remain present that has not returned.
        await asyncio.sleep(LONGEST_RETRY_SECONDS + GRACE_SECONDS + 1.0)
        for task in talking:
            task.cancel()
        await until(lambda: all(each.texts[-1:] == sent[each.room][-1:] for each in clients))
        for task in tasks:
            task.cancel()
        for each in clients:
            await each.socket.close()
    check_drain(moved, signalled)
    for client in clients:
        assert client.texts == sent[client.room], client.user
        recovered = [
            each["recovered"] for each in client.payloads("serverPosition") if "recovered" in each
        ]
        assert all(recovered), client.user
    absences = {each.user: each.returned_at[1] - each.ends[0][0] for each in moved}
    for client, start in zip(staying, before, strict=True):
        assert not client.ends
        edges = [
            (each["type"], each["payload"]["userId"], absences[each["payload"]["userId"]])
            for each in client.received[start:]
            if each["type"] in ("serverUserLeft", "serverUserJoined")
        ]
        assert not edges, (
            f"{client.room}: nobody has left or come back, with the seconds of absence"
        )


def check_drain(moved: list[Client], signalled: float) -> None:
    """The clients were closed one after the other, and returned when they were asked to."""
    ends = sorted(end for each in moved for end in each.ends)
    assert len(ends) == len(moved)
    assert {code for _, code, _ in ends} == {SERVICE_RESTART}
    assert all(re.fullmatch(r"retry=[0-2]\.\d", reason) for _, _, reason in ends)
    times = [at - signalled for at, _, _ in ends]
    assert times[0] >= DELAY_SECONDS
    assert times[-1] >= DELAY_SECONDS + 0.9 * DRAIN_SECONDS
    halves = Counter(at < DELAY_SECONDS + DRAIN_SECONDS / 2 for at in times)
    assert min(halves.values()) >= 0.35 * len(moved), "they are spread"
    for client in moved:
        [(at, _, reason)] = client.ends
        waited = client.returned_at[1] - at
        assert waited >= float(reason.removeprefix("retry="))
    # In each room one half of the clients moved, at different times.
    for room in {each.room for each in moved}:
        own = sorted(each.ends[0][0] for each in moved if each.room == room)
        assert own[-1] - own[0] > DRAIN_SECONDS / 2


def not_ready(port: int) -> bool:
    response = request(port, "GET", "/ready")
    return response.status == 503 and b"the service is about to stop" in response.body


async def until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds, for a bounded time."""
    deadline = time.monotonic() + WAIT_SECONDS + DRAIN_SECONDS
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)

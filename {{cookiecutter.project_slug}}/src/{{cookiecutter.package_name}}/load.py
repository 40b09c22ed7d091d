"""Load a running service with clients: ``make load CLIENTS=200``, or ``python -m {{ cookiecutter.package_name }}.load --help``.

Clients sign in by name, join rooms one after the other, and send messages in turn. The result is the rate of the
joins, the times from sending a message to its receipt by each member (both ends are in this process, so one clock
measures them), and the messages that did not arrive. The texts go into the service's database, in rooms that are called
``load-...``: serve with ``APP_DATABASE_URL=none`` to keep none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import ipaddress
import itertools
import json
import secrets
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from .load_report import Progress, metrics_of, report

# Bounds, so that a mistyped number does no harm. One address is allowed 28,000 ports on Linux.
MAX_CLIENTS, MAX_SECONDS, MAX_MESSAGES_PER_SECOND = 20_000, 600.0, 10_000.0
CLIENTS_PER_ROOM = 20
CONNECT_SECONDS, DRAIN_SECONDS = 20.0, 5.0
WEBSOCKET_PATH = "{{ cookiecutter.websocket_path }}"


class Load:
    """One run.

    Attributes:
        members: The connections by room.
        refused: The handshakes that failed, by reason.
        sent: The messages sent so far.
        expected: The deliveries that they cause.
        delays: The time of each delivery in seconds.
        join_seconds: The time of each handshake in seconds.

    Args:
        url: The service, such as ``http://127.0.0.1:8000``.
        clients: How many clients.
        joins_per_second: How many of them begin to join in a second.
        messages_per_second: The messages of all clients together.
        seconds: For how long they send.
        token: A session token for all clients; without one, each signs in by name.
    """

    def __init__(
        self,
        url: str,
        clients: int,
        joins_per_second: float,
        messages_per_second: float,
        seconds: float,
        token: str = "",
    ) -> None:
        parts = urlsplit(url)
        self.url = url
        self.address, self.secure = parts.netloc, parts.scheme == "https"
        self.prefix = parts.path.rstrip("/")
        self.clients = clients
        self.joins_per_second, self.messages_per_second = joins_per_second, messages_per_second
        self.seconds = seconds
        self.token = token
        self.run = secrets.token_hex(4)
        self.members: dict[str, list[ClientConnection]] = {}
        self.refused: Counter[str] = Counter()
        self.sent = self.expected = 0
        self.sent_at: dict[str, float] = {}
        self.delays: list[float] = []
        self.join_seconds: list[float] = []
        self.arrived = asyncio.Event()

    def check_answers(self) -> None:
        """Raise OSError if nothing serves at the address."""
        parts = urlsplit(self.url)
        port = parts.port or (443 if self.secure else 80)
        socket.create_connection((parts.hostname, port), CONNECT_SECONDS).close()

    def post_session(self, name: str) -> str:
        """Sign in by name; return the token.

        Raises:
            SystemExit: The service has no sign-in by name, as in production.
        """
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        connection = kind(self.address, timeout=CONNECT_SECONDS)
        with contextlib.closing(connection):
            body = json.dumps({"name": name})
            headers = {"Content-Type": "application/json"}
            connection.request("POST", f"{self.prefix}/session", body, headers)
            response = connection.getresponse()
            answer = response.read()
        if response.status != 201:
            sys.exit(
                f"{self.url}/session answers {response.status}: the service has no sign-in by name;"
                " give a session token with --token"
            )
        return str(json.loads(answer)["token"])

    async def join(self, number: int) -> None:
        """Connect a client and receive its messages until it is closed."""
        room = f"load-{self.run}-{number // CLIENTS_PER_ROOM}"
        scheme = "wss" if self.secure else "ws"
        url = f"{scheme}://{self.address}{self.prefix}{WEBSOCKET_PATH}/{room}"
        name = f"load-{self.run}-{number}"
        try:
            token = self.token or await asyncio.to_thread(self.post_session, name)
            headers = {"Authorization": f"Bearer {token}"}
            began = time.perf_counter()
            connection = await connect(
                url,
                additional_headers=headers,
                compression=None,
                open_timeout=CONNECT_SECONDS,
                ping_interval=None,
                proxy=None,
            )
        except InvalidStatus as error:
            self.refused[f"status {error.response.status_code}"] += 1
            return
        except (OSError, InvalidHandshake, http.client.HTTPException) as error:
            self.refused[type(error).__name__] += 1
            return
        self.join_seconds.append(time.perf_counter() - began)
        self.members.setdefault(room, []).append(connection)
        try:
            async for data in connection:
                self.receive(data)
        except ConnectionClosed as closed:
            self.refused[f"closed with {closed.rcvd.code if closed.rcvd else 1006}"] += 1
        self.members[room].remove(connection)

    def receive(self, data: str | bytes) -> None:
        """Measure a message of this run."""
        if isinstance(data, str) and '"serverNewMessage"' in data and self.run in data:
            sent_at = self.sent_at.get(json.loads(data)["payload"]["text"])
            if sent_at is not None:
                self.delays.append(time.perf_counter() - sent_at)
                self.arrived.set()

    async def join_all(self, progress: Progress) -> list[asyncio.Task[None]]:
        """Let the clients join at the given rate; return their tasks when all have joined or been refused."""
        began, tasks = time.perf_counter(), list[asyncio.Task[None]]()
        for number in range(self.clients):
            await asyncio.sleep(began + number / self.joins_per_second - time.perf_counter())
            tasks.append(asyncio.create_task(self.join(number)))
            progress.show("joining", len(self.join_seconds), self.clients)
        while len(self.join_seconds) + self.refused.total() < self.clients:
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.05)
            progress.show("joining", len(self.join_seconds), self.clients)
        return tasks

    async def send_all(self, progress: Progress) -> None:
        """Let the clients send in turn, then wait until the last messages have arrived."""
        in_turn = itertools.zip_longest(*self.members.values())
        senders = [each for turn in in_turn for each in turn if each is not None]
        rooms = {each: room for room, members in self.members.items() for each in members}
        began, total = time.perf_counter(), int(self.seconds * self.messages_per_second)
        for number in range(total if senders else 0):
            await asyncio.sleep(began + number / self.messages_per_second - time.perf_counter())
            sender, text = senders[number % len(senders)], f"{self.run} {number}"
            self.sent_at[text] = time.perf_counter()
            message = {"type": "clientSendMessage", "payload": {"text": text}}
            try:
                await sender.send(json.dumps(message))
            except ConnectionClosed:
                continue
            self.sent += 1
            self.expected += len(self.members[rooms[sender]])
            progress.show("sending", number + 1, total)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while len(self.delays) < self.expected:
                    self.arrived.clear()
                    await self.arrived.wait()

    async def measure(self) -> bool:
        """Run and print the result; return whether all clients joined and all messages arrived."""
        await asyncio.to_thread(self.check_answers)
        progress, before = Progress(), await asyncio.to_thread(metrics_of, self.url)
        began = time.perf_counter()
        tasks = await self.join_all(progress)
        joined, join_all_seconds = len(self.join_seconds), time.perf_counter() - began
        await self.send_all(progress)
        after = await asyncio.to_thread(metrics_of, self.url)
        progress.end()
        connected = [each for members in self.members.values() for each in members]
        await asyncio.gather(*(each.close() for each in connected))
        await asyncio.gather(*tasks)
        lost = self.expected - len(self.delays)
        report(
            {
                "clients": f"{joined} of {self.clients} joined, in {len(self.members)} rooms",
                "joins": f"{joined / join_all_seconds:.0f} per second, {quantiles(self.join_seconds)}",
                "messages": f"{self.sent} sent, {len(self.delays)} deliveries, {quantiles(self.delays)}",
                "loss": f"{lost} of {self.expected} deliveries",
            },
            self.refused,
            before,
            after,
        )
        return joined == self.clients and lost == 0


def quantiles(seconds: Sequence[float]) -> str:
    """Return the median and the 99th percentile."""
    if len(seconds) < 2:
        return "too few for a median"
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"


def is_loopback(url: str) -> bool:
    """Return whether all addresses of the service are this machine's own.

    Raises:
        SystemExit: It is not an HTTP URL, or its host is unknown.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        sys.exit(f"{url!r} is not a URL of a service: {error}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        sys.exit(f"{url!r} is not a URL of a service, such as http://127.0.0.1:8000")
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        sys.exit(f"{parts.hostname} is unknown: {error}")
    return all(ipaddress.ip_address(str(address[4][0])).is_loopback for address in found)


def bounded(value: float, name: str, most: float) -> None:
    """Refuse a number out of bounds.

    Raises:
        SystemExit: It is not above zero, or above the maximum.
    """
    if not 0 < value <= most:
        sys.exit(f"--{name} is {value:g}: give a number above 0, {most:g} at most")


def main() -> None:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the service")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--joins-per-second", type=float, default=50.0)
    parser.add_argument("--messages-per-second", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=10.0, help="for how long they send")
    parser.add_argument(
        "--token", default="", help="a session token, where there is no sign-in by name"
    )
    parser.add_argument(
        "--remote",
        action="store_true",
        help="allow a service on another machine, which must be yours",
    )
    given = parser.parse_args()
    bounded(given.clients, "clients", MAX_CLIENTS)
    bounded(given.joins_per_second, "joins-per-second", MAX_CLIENTS)
    bounded(given.messages_per_second, "messages-per-second", MAX_MESSAGES_PER_SECOND)
    bounded(given.seconds, "seconds", MAX_SECONDS)
    if not given.remote and not is_loopback(given.url):
        sys.exit(f"{given.url} is another machine: load only your own service, with --remote")
    load = Load(
        given.url.rstrip("/"),
        given.clients,
        given.joins_per_second,
        given.messages_per_second,
        given.seconds,
        given.token,
    )
    try:
        complete = asyncio.run(load.measure())
    except OSError as error:
        sys.exit(f"{given.url} does not answer: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main()

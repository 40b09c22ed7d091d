"""Simulated users of a cluster: they join, publish, reload, lose their connection, reconnect and leave.

Each has its own random number generator, so that a seed repeats their decisions. Their events are recorded.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from .events import Closed, Event, Left, Listed, Opened, Page, Positioned, Received
from .node_process import now
from .record import Publish, Record
from .views import PageView

REPLY_SECONDS = 15.0
OPEN_SECONDS = 5.0
CLOSE_SECONDS = 1.0
PAUSE_SECONDS = 1.0
MAX_RECONNECT_SECONDS = 1.0
BURST_MESSAGES = 5
CHECK_SECONDS = 0.2
# One user of so many shares a name with another one, is in two rooms, or never leaves by itself.
SHARED_USER, IN_TWO_ROOMS, STAYING = 5, 6, 5
VISITS_PER_ROOM = 2
# As many as the web client.
CONNECTION_IDS = 4


class Simulation:
    """The state that all users share.

    Attributes:
        seed: The seed of all random number generators.
        ports: The ports of the nodes.
        rooms: The number of rooms at the start.
        record: The record of events.
        phase: ``"busy"``, ``"calm"`` (users stay, and reconnect if disconnected) or ``"over"``.
    """

    def __init__(self, seed: int, ports: list[int], rooms: int, record: Record) -> None:
        self.seed = seed
        self.ports = ports
        self.rooms = rooms
        self.record = record
        self.phase = "busy"
        self.changed = asyncio.Event()

    def enter(self, phase: str) -> None:
        """Begin another phase."""
        self.phase = phase
        self.changed.set()
        self.changed = asyncio.Event()

    async def wait_changed(self, seconds: float | None = None) -> None:
        """Wait for the next phase, or for some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.changed.wait()


class BrowserPage:
    """A page with one connection after the other; it behaves as the web client does.

    Attributes:
        page: The recorded events.
        view: Its view of the members of its rooms.
        node: The node of its last connection.
        known: The last offset that it knows of each epoch.
        connections: The ids of its last connections in the positions that it received.
        positioned: Set while it has the positions of all its rooms on the present connection.
    """

    def __init__(self, page: Page, record: Record) -> None:
        self.page = page
        self.record = record
        self.view = PageView(page.user)
        self.node = 0
        self.known: dict[str, int] = {}
        self.connections: list[str] = []
        self.positioned = asyncio.Event()
        self.positioned_epochs: set[str] = set()
        self.replies: dict[str, asyncio.Future[str]] = {}
        self.published = 0
        self.keys_seen: set[str] = set()
        self.closing_at: float | None = None
        self.leaving = False
        self.has_left = asyncio.Event()

    def add(self, event: Event) -> None:
        """Record an event and update the view."""
        self.page.events.append(event)
        self.view.update(event)

    def url(self, port: int) -> str:
        """Return the URL to connect to, with the known positions."""
        query = [("user", self.page.user), *(("room", room) for room in self.page.rooms)]
        query += [("since", f"{epoch}:{offset}") for epoch, offset in self.known.items()]
        query += [("connection", name) for name in self.connections[-CONNECTION_IDS:]]
        return f"ws://127.0.0.1:{port}/ws?{urlencode(query)}"

    async def read(self, socket: ClientConnection) -> None:
        """Record messages until the connection has ended."""
        try:
            async for text in socket:
                self.handle(json.loads(text))
        except ConnectionClosed:
            pass
        finally:
            self.positioned.clear()
            for reply in self.replies.values():
                if not reply.done():
                    reply.set_result("cut off")
            at = self.closing_at if self.closing_at is not None else now()
            self.add(Closed(at, socket.close_code or 1006))

    def handle(self, message: Mapping[str, Any]) -> None:
        """Record a message."""
        at = now()
        kind, payload = message["type"], message.get("payload", {})
        payload.pop("filler", None)
        epoch, _, digits = message.get("id", "").partition(":")
        offset = int(digits) if digits else 0
        if kind == "serverPosition" and "connection" not in payload:
            return  # repeated to an idle client
        if kind == "serverPosition":
            recovered = payload.get("recovered")
            self.add(Positioned(at, epoch, offset, recovered))
            self.known[epoch] = offset
            if payload["connection"] not in self.connections:
                self.connections.append(payload["connection"])
            self.positioned_epochs.add(epoch)
            if len(self.positioned_epochs) >= len(self.page.rooms):
                self.positioned.set()
            return
        if kind == "members":
            users, where = tuple(payload["users"]), (payload["epoch"], payload["offset"])
            self.add(Listed(at, payload["room"], users, *where, payload["partial"]))
            return
        self.add(Received(at, kind, payload, epoch, offset))
        if epoch and offset > self.known.get(epoch, 0):
            self.known[epoch] = offset
        if kind == "message":
            self.keys_seen.add(payload["key"])
        elif kind == "published":
            reply = self.replies.get(payload["key"])
            if reply is not None and not reply.done():
                reply.set_result("accepted")
        elif kind == "serverError":  # about the first message without a reply
            for reply in self.replies.values():
                if not reply.done():
                    reply.set_result("refused")
                    break
        elif kind == "rooms left":
            self.has_left.set()

    async def publish(
        self, socket: ClientConnection, exclude: str, room: str = "", ephemeral: bool = False
    ) -> str:
        """Publish a message, wait for the reply, record it and return the outcome."""
        self.published += 1
        page = self.page
        room = room or page.rooms[0]
        key = f"{page.name}#{self.published}"
        message = {
            "key": key,
            "room": room,
            "sender": page.name,
            "user": page.user,
            "exclude": exclude,
            "ephemeral": ephemeral,
        }
        reply = self.replies[key] = asyncio.get_running_loop().create_future()
        started_at, outcome = now(), "cut off"
        try:
            with contextlib.suppress(ConnectionClosed):
                await socket.send(json.dumps({"type": "publish", "payload": message}))
            async with asyncio.timeout(REPLY_SECONDS):
                outcome = await asyncio.shield(reply)
        except TimeoutError:
            outcome = "unanswered"
        finally:
            del self.replies[key]
            ended_at = now()
            publish = (
                key,
                room,
                page.name,
                page.user,
                exclude,
                ephemeral,
                started_at,
                ended_at,
                outcome,
            )
            self.record.publishes.append(Publish(*publish))
        return outcome

    async def end(self, socket: ClientConnection, rng: random.Random) -> None:
        """Close the connection, or drop it without a closing handshake."""
        self.closing_at = now()
        if rng.random() < 0.5:
            socket.transport.abort()
        else:
            await socket.close()


class SimulatedUser:
    """A simulated user: page after page, room after room.

    Attributes:
        browser: The open page; ``None`` while the user is absent.
        socket: The connection of the page, if there is one.
        idle: Whether no action is in progress.
        over: Whether it has left for good.
    """

    def __init__(self, simulation: Simulation, number: int) -> None:
        self.simulation = simulation
        self.number = number
        self.rng = random.Random(f"user {number} of {simulation.seed}")
        shares_user = number % SHARED_USER == SHARED_USER - 1
        self.user_number = number - shares_user
        self.stays = number % STAYING == 0
        self.browser: BrowserPage | None = None
        self.socket: ClientConnection | None = None
        self.idle = False
        self.over = False
        self.visits = 0
        self.loads = 0
        self.absence_seconds = 0.0

    def rooms(self) -> tuple[str, ...]:
        """Return the rooms of this visit: old rooms are abandoned after some visits, new ones are created."""
        count = self.simulation.rooms
        first = self.user_number % count + count * (self.visits // VISITS_PER_ROOM)
        if self.number % IN_TWO_ROOMS:
            return (f"room-{first}",)
        return f"room-{first}", f"room-{first + 1}"

    async def live(self) -> None:
        """Load pages until the end of the run."""
        while self.simulation.phase != "over":
            self.loads += 1
            user = f"user-{self.user_number}"
            page = Page(f"{user}/{self.number}.{self.loads}", user, self.rooms())
            self.simulation.record.pages.append(page)
            self.browser = BrowserPage(page, self.simulation.record)
            ending = await self.use(self.browser)
            if ending == "leave":
                self.browser = None
                self.visits += 1
                await self.stay_absent()
        self.browser = None
        self.over = True

    async def stay_absent(self) -> None:
        """Wait before the next visit, which does not begin in a calm phase."""
        await self.simulation.wait_changed(self.rng.uniform(0.0, 2.0))
        self.idle = True
        while self.simulation.phase == "calm":
            await self.simulation.wait_changed()
        self.idle = False

    async def use(self, browser: BrowserPage) -> str:
        """Keep a page connected until it is reloaded or closed; return how it ended."""
        failures = 0
        while self.simulation.phase != "over":
            node = self.rng.randrange(len(self.simulation.ports))
            ending = "lost"
            with contextlib.suppress(OSError, InvalidHandshake, InvalidMessage, EOFError):
                since = dict(browser.known)
                async with connect(
                    browser.url(self.simulation.ports[node]),
                    compression=None,
                    ping_interval=None,
                    open_timeout=OPEN_SECONDS,
                    close_timeout=CLOSE_SECONDS,
                    max_queue=None,
                ) as socket:
                    failures = 0
                    browser.positioned_epochs.clear()
                    browser.closing_at = None
                    browser.node = node
                    browser.add(Opened(now(), node, since))
                    self.socket = socket
                    try:
                        ending = await self.use_connection(browser, socket)
                    finally:
                        self.socket = None
                        self.idle = False
            if ending == "lost" and browser.leaving:
                ending = "leave"  # the connection ended before the rooms were left
            if ending != "lost":
                return ending
            longest = min(MAX_RECONNECT_SECONDS, 0.1 * 2**failures)
            await asyncio.sleep(self.absence_seconds or self.rng.uniform(0.02, longest))
            self.absence_seconds = 0.0
            failures += 1
        return "over"

    async def use_connection(self, browser: BrowserPage, socket: ClientConnection) -> str:
        """Read and act on one connection; return how it ended."""
        reading = asyncio.create_task(browser.read(socket))
        acting = asyncio.create_task(self.act(browser, socket))
        try:
            await asyncio.wait({reading, acting}, return_when=asyncio.FIRST_COMPLETED)
            ending = acting.result() if acting.done() else "lost"
            if ending != "lost":
                await asyncio.wait({reading}, timeout=2 * CLOSE_SECONDS)
            return ending
        finally:
            for task in (acting, reading):
                task.cancel()
            await asyncio.wait({acting, reading})
            for task in (acting, reading):
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error

    async def act(self, browser: BrowserPage, socket: ClientConnection) -> str:
        """Perform actions until one of them ends the connection."""
        rng = self.rng
        while not browser.positioned.is_set() and self.simulation.phase != "over":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await browser.positioned.wait()
        while True:
            if self.simulation.phase == "calm":
                self.idle = True
                while self.simulation.phase == "calm":
                    await self.simulation.wait_changed()
                self.idle = False
            if self.simulation.phase == "over":
                await browser.end(socket, rng)
                return "over"
            await self.simulation.wait_changed(rng.expovariate(1 / PAUSE_SECONDS))
            choice = rng.random()
            if self.simulation.phase != "busy":
                continue
            room = rng.choice(browser.page.rooms)
            if choice < 0.60 or self.stays:
                await browser.publish(socket, rng.choice(["", "", "", "self", "user"]), room)
            elif choice < 0.68:
                await browser.publish(socket, "", room, ephemeral=True)
            elif choice < 0.74:
                await asyncio.gather(
                    *(browser.publish(socket, "", room) for _ in range(BURST_MESSAGES))
                )
            elif choice < 0.80:
                await browser.end(socket, rng)
                return "reload"
            elif choice < 0.90:
                await browser.end(socket, rng)
                self.absence_seconds = rng.uniform(0.0, 1.5)
                return "lost"
            elif choice < 0.96:
                if rng.random() < 0.5:
                    await self.leave(browser, socket)
                await browser.end(socket, rng)
                return "leave"

    async def leave(self, browser: BrowserPage, socket: ClientConnection) -> None:
        """Leave the rooms before the connection ends."""
        browser.leaving = True
        browser.add(Left(now()))
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            await socket.send('{"type": "leave"}')
            async with asyncio.timeout(CLOSE_SECONDS):
                await browser.has_left.wait()

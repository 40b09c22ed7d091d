"""People who use a cluster: they come, speak, reload, lose their connection, come back, and go.

Each follows dice of its own, so that a seed gives the same decisions again. What they see is recorded.
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

from ..support.cluster import now
from .invariants import Closed, Got, Left, Opened, Page, Positioned, Publish, Record

ANSWER_SECONDS = 15.0
OPEN_SECONDS = 5.0
CLOSE_SECONDS = 1.0
THINKING_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 1.0
BURST_MESSAGES = 5
LOOK_SECONDS = 0.2
# Of the people: who shares a user with another one, is in two rooms, or never goes by themselves.
TWINS, IN_TWO_ROOMS, FAITHFUL = 5, 6, 5
VISITS_PER_ROOM = 2


class World:
    """What all people share.

    Attributes:
        seed: What all dice begin with.
        ports: Where the nodes listen.
        rooms: In how many rooms people begin.
        record: What they have seen.
        phase: ``"busy"``, ``"calm"`` (they stay, and come back where they are thrown out) or ``"over"``.
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
        """Wait until another phase begins, or for some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.changed.wait()


class Browser:
    """One page with its connections, one after the other; it does what the web client does.

    Attributes:
        page: What it has seen.
        known: The last offset that it knows of each epoch.
        connection: The name of its connection in the last position that it was told.
        placed: Set while it has been told the positions of all its rooms on the connection it has.
    """

    def __init__(self, page: Page, record: Record) -> None:
        self.page = page
        self.record = record
        self.known: dict[str, int] = {}
        self.connection = ""
        self.placed = asyncio.Event()
        self.told_epochs: set[str] = set()
        self.answers: dict[str, asyncio.Future[str]] = {}
        self.said = 0
        self.keys_seen: set[str] = set()
        self.closing_at: float | None = None
        self.leaving = False
        self.alone = asyncio.Event()

    def url(self, port: int) -> str:
        """Where it connects to, with what it knows."""
        query = [("user", self.page.user), *(("room", room) for room in self.page.rooms)]
        query += [("since", f"{epoch}:{offset}") for epoch, offset in self.known.items()]
        if self.connection:
            query.append(("connection", self.connection))
        return f"ws://127.0.0.1:{port}/ws?{urlencode(query)}"

    async def read(self, socket: ClientConnection) -> None:
        """Record what comes, until the connection has ended."""
        try:
            async for text in socket:
                self.take(json.loads(text))
        except ConnectionClosed:
            pass
        finally:
            self.placed.clear()
            for answer in self.answers.values():
                if not answer.done():
                    answer.set_result("cut off")
            at = self.closing_at if self.closing_at is not None else now()
            self.page.events.append(Closed(at, socket.close_code or 1006))

    def take(self, message: Mapping[str, Any]) -> None:
        """Record a message."""
        at = now()
        kind, payload = message["type"], message.get("payload", {})
        epoch, _, digits = message.get("id", "").partition(":")
        offset = int(digits) if digits else 0
        if kind == "serverPosition":
            recovered = payload.get("recovered")
            self.page.events.append(Positioned(at, epoch, offset, recovered))
            self.known[epoch] = offset
            self.connection = payload["connection"]
            self.told_epochs.add(epoch)
            if len(self.told_epochs) >= len(self.page.rooms):
                self.placed.set()
            return
        self.page.events.append(Got(at, kind, payload, epoch, offset))
        if epoch and offset > self.known.get(epoch, 0):
            self.known[epoch] = offset
        if kind == "said":
            self.keys_seen.add(payload["key"])
        elif kind == "spoken":
            answer = self.answers.get(payload["key"])
            if answer is not None and not answer.done():
                answer.set_result("accepted")
        elif kind == "serverError":  # about the first message that has no answer yet
            for answer in self.answers.values():
                if not answer.done():
                    answer.set_result("refused")
                    break
        elif kind == "alone":
            self.alone.set()

    async def say(
        self, socket: ClientConnection, without: str, room: str = "", ephemeral: bool = False
    ) -> str:
        """Say something, wait for the answer, and record it; the outcome."""
        self.said += 1
        page = self.page
        room = room or page.rooms[0]
        key = f"{page.name}#{self.said}"
        message = {
            "key": key,
            "room": room,
            "who": page.name,
            "user": page.user,
            "without": without,
            "ephemeral": ephemeral,
        }
        answer = self.answers[key] = asyncio.get_running_loop().create_future()
        begun, outcome = now(), "cut off"
        try:
            with contextlib.suppress(ConnectionClosed):
                await socket.send(json.dumps({"type": "say", "payload": message}))
            async with asyncio.timeout(ANSWER_SECONDS):
                outcome = await asyncio.shield(answer)
        except TimeoutError:
            outcome = "unanswered"
        finally:
            del self.answers[key]
            ended = now()
            publish = (key, room, page.name, page.user, without, ephemeral, begun, ended, outcome)
            self.record.publishes.append(Publish(*publish))
        return outcome

    async def end(self, socket: ClientConnection, dice: random.Random) -> None:
        """End the connection in order or without a word."""
        self.closing_at = now()
        if dice.random() < 0.5:
            socket.transport.abort()
        else:
            await socket.close()


class Person:
    """One who uses the chat: page after page, room after room.

    Attributes:
        browser: The page that is open; ``None`` for one who is away.
        socket: Its connection, if it has one.
        resting: Whether nothing is under way.
        over: Whether it has gone for good.
    """

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.dice = random.Random(f"person {number} of {world.seed}")
        twin = number % TWINS == TWINS - 1
        self.user_number = number - twin
        self.faithful = number % FAITHFUL == 0
        self.browser: Browser | None = None
        self.socket: ClientConnection | None = None
        self.resting = False
        self.over = False
        self.visits = 0
        self.loads = 0
        self.absence_seconds = 0.0

    def rooms(self) -> tuple[str, ...]:
        """Where it is on this visit: old rooms are left for ever, new ones are found."""
        count = self.world.rooms
        first = self.user_number % count + count * (self.visits // VISITS_PER_ROOM)
        if self.number % IN_TWO_ROOMS:
            return (f"room-{first}",)
        return f"room-{first}", f"room-{first + 1}"

    async def live(self) -> None:
        """Go on until all is over."""
        while self.world.phase != "over":
            self.loads += 1
            user = f"user-{self.user_number}"
            page = Page(f"{user}/{self.number}.{self.loads}", user, self.rooms())
            self.world.record.pages.append(page)
            self.browser = Browser(page, self.world.record)
            how = await self.use(self.browser)
            if how == "depart":
                self.browser = None
                self.visits += 1
                await self.be_away()
        self.browser = None
        self.over = True

    async def be_away(self) -> None:
        """Wait before the next visit, which does not begin in a calm."""
        await self.world.wait_changed(self.dice.uniform(0.0, 2.0))
        self.resting = True
        while self.world.phase == "calm":
            await self.world.wait_changed()
        self.resting = False

    async def use(self, browser: Browser) -> str:
        """Keep a page connected until it is reloaded or closed; how it ended."""
        failures = 0
        while self.world.phase != "over":
            node = self.dice.randrange(len(self.world.ports))
            how = "lost"
            with contextlib.suppress(OSError, InvalidHandshake, InvalidMessage, EOFError):
                since = dict(browser.known)
                async with connect(
                    browser.url(self.world.ports[node]),
                    compression=None,
                    ping_interval=None,
                    open_timeout=OPEN_SECONDS,
                    close_timeout=CLOSE_SECONDS,
                    max_queue=None,
                ) as socket:
                    failures = 0
                    browser.told_epochs.clear()
                    browser.closing_at = None
                    browser.page.events.append(Opened(now(), node, since))
                    self.socket = socket
                    try:
                        how = await self.talk(browser, socket)
                    finally:
                        self.socket = None
                        self.resting = False
            if how == "lost" and browser.leaving:
                how = "depart"  # the connection ended before it had left
            if how != "lost":
                return how
            longest = min(LONGEST_PAUSE_SECONDS, 0.1 * 2**failures)
            await asyncio.sleep(self.absence_seconds or self.dice.uniform(0.02, longest))
            self.absence_seconds = 0.0
            failures += 1
        return "over"

    async def talk(self, browser: Browser, socket: ClientConnection) -> str:
        """Live one connection: read, and act meanwhile; how it ended."""
        reading = asyncio.create_task(browser.read(socket))
        acting = asyncio.create_task(self.act(browser, socket))
        try:
            await asyncio.wait({reading, acting}, return_when=asyncio.FIRST_COMPLETED)
            how = acting.result() if acting.done() else "lost"
            if how != "lost":
                await asyncio.wait({reading}, timeout=2 * CLOSE_SECONDS)
            return how
        finally:
            for task in (acting, reading):
                task.cancel()
            await asyncio.wait({acting, reading})
            for task in (acting, reading):
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error

    async def act(self, browser: Browser, socket: ClientConnection) -> str:
        """Do one thing after the other, until one of them ends the connection."""
        dice = self.dice
        while not browser.placed.is_set() and self.world.phase != "over":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await browser.placed.wait()
        while True:
            if self.world.phase == "calm":
                self.resting = True
                while self.world.phase == "calm":
                    await self.world.wait_changed()
                self.resting = False
            if self.world.phase == "over":
                await browser.end(socket, dice)
                return "over"
            await self.world.wait_changed(dice.expovariate(1 / THINKING_SECONDS))
            choice = dice.random()
            if self.world.phase != "busy":
                continue
            room = dice.choice(browser.page.rooms)
            if choice < 0.60 or self.faithful:
                await browser.say(socket, dice.choice(["", "", "", "self", "user"]), room)
            elif choice < 0.68:
                await browser.say(socket, "", room, ephemeral=True)
            elif choice < 0.74:
                await asyncio.gather(
                    *(browser.say(socket, "", room) for _ in range(BURST_MESSAGES))
                )
            elif choice < 0.80:
                await browser.end(socket, dice)
                return "reload"
            elif choice < 0.90:
                await browser.end(socket, dice)
                self.absence_seconds = dice.uniform(0.0, 1.5)
                return "lost"
            elif choice < 0.96:
                if dice.random() < 0.5:
                    await self.leave(browser, socket)
                await browser.end(socket, dice)
                return "depart"

    async def leave(self, browser: Browser, socket: ClientConnection) -> None:
        """Leave the rooms before the connection ends."""
        browser.leaving = True
        browser.page.events.append(Left(now()))
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            await socket.send('{"type": "leave"}')
            async with asyncio.timeout(CLOSE_SECONDS):
                await browser.alone.wait()

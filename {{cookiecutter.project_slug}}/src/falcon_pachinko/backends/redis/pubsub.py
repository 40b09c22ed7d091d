"""Listening to the engine: endless, watched, and resumed as a whole."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from ...errors import failure_reason
from .client import FAILURES, Engine, run_of
from .resp import Wire

logger = logging.getLogger(__name__)

# Backoff with full jitter, so that nodes which were cut off together do not come back together.
BASE_SECONDS = 0.1
CAP_SECONDS = 5.0

# A silent connection is looked at so often within the time that the engine has to answer.
LOOKS = 4

# How many channels one command names; in a cluster those of one command have to be in one slot.
CHANNELS_PER_COMMAND = 500


class Listener:
    """Hears channels of an engine for as long as it is needed.

    A connection on which nothing is heard, not even the answer to a PING, within ``answer_seconds`` counts as
    broken: TCP does not notice a half-open one. Then everything is begun anew, without end.

    Args:
        engine: Whom to listen to.
        on_message: Takes each message with its channel.
        on_up: Called each time when all channels are listened to again; it makes up for what was missed.
        on_down: Called with the reason when that has ended.
    """

    def __init__(
        self,
        engine: Engine,
        on_message: Callable[[bytes, bytes], None],
        on_up: Callable[[], Awaitable[None]],
        on_down: Callable[[str], None],
    ) -> None:
        self.engine = engine
        self.on_message = on_message
        self.on_up = on_up
        self.on_down = on_down
        self.channels: dict[str, None] = {}
        self.links: dict[str, Wire] = {}
        self.waiting: dict[bytes, list[asyncio.Future[None]]] = {}
        self.ended: dict[bytes, list[Callable[[], None]]] = {}
        self.heard: set[str] = set()
        self.runs: set[bytes] = set()
        """Which servers are listened to."""
        self.broken: asyncio.Future[None] | None = None
        self.listening = False
        self.restored = False

    async def add(self, channel: str) -> None:
        """Listen to one more channel; where the engine is away, from its return on.

        Raises:
            redis.exceptions.RedisError: It has gone meanwhile.
        """
        self.channels[channel] = None
        if self.listening:
            await self.begin([channel])

    def remove(self, channel: str, then: Callable[[], None]) -> None:
        """Listen to a channel no more; ``then`` is called once the engine has said so."""
        self.channels.pop(channel, None)
        if not self.listening:
            return
        link = self.links.get(self.engine.home_of(channel))
        if link is not None:
            self.ended.setdefault(channel.encode(), []).append(then)
            self.send(link, self.engine.subscribe[1], channel)

    async def run(self) -> None:
        """Listen until cancelled."""
        attempt = 0
        while True:
            try:
                await self.listen()
            except Exception as error:
                if not isinstance(error, FAILURES):
                    logger.exception("listening failed as it never should")
                reason = failure_reason(error)
            if self.restored:
                attempt = 0
            await self.stop()
            self.on_down(reason)
            delay = random.uniform(0.0, min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(attempt, 30)))
            attempt += 1
            await asyncio.sleep(delay)

    def restart(self, reason: str) -> None:
        """Give up on the present connections, and begin anew."""
        if self.broken is not None and not self.broken.done():
            self.broken.set_exception(ConnectionError(reason))
            self.broken.exception()  # asyncio would else complain where nobody waits for it any more

    async def listen(self) -> None:
        """Listen until something breaks; that is raised."""
        loop = asyncio.get_running_loop()
        self.broken = loop.create_future()
        async with asyncio.timeout(2 * self.engine.answer_seconds):
            await self.engine.look_around()
            await self.race(self.begin_all())
        up = loop.create_task(self.up())
        try:
            silent: dict[str, int] = {}
            while not self.broken.done():
                await asyncio.wait({self.broken}, timeout=self.engine.answer_seconds / LOOKS)
                for home, link in self.links.items():
                    silent[home] = 0 if home in self.heard else silent.get(home, 0) + 1
                    if silent[home] >= LOOKS - 1:
                        raise TimeoutError
                    if silent[home]:
                        self.send(link, "PING")
                self.heard.clear()
            self.broken.result()
        finally:
            up.cancel()
            await asyncio.wait({up})

    async def up(self) -> None:
        """Make up for what was missed; where that fails, begin anew."""
        try:
            await self.on_up()
        except Exception as error:
            if not isinstance(error, FAILURES):
                logger.exception("making up for an outage failed as it never should")
            self.restart(failure_reason(error))
        else:
            self.restored = True

    async def race(self, waits_for: Awaitable[None]) -> None:
        """Wait for something, or for the break of a connection."""
        assert self.broken is not None
        task = asyncio.ensure_future(waits_for)
        try:
            await asyncio.wait({task, self.broken}, return_when=asyncio.FIRST_COMPLETED)
            if self.broken.done():
                self.broken.result()
            await task
        finally:
            task.cancel()

    async def begin_all(self) -> None:
        """Listen to all channels, also to those that are added meanwhile: from its end on each by itself."""
        begun: set[str] = set()
        while missing := self.channels.keys() - begun:
            begun |= missing
            await self.begin(missing)
        for channel in begun - self.channels.keys():
            self.ended.setdefault(channel.encode(), []).append(nothing)
            self.send(self.links[self.engine.home_of(channel)], self.engine.subscribe[1], channel)
        # NOTE: in the same turn as the last look at what is missing, or a channel would be left out.
        self.listening = True

    async def begin(self, channels: Iterable[str]) -> None:
        """Listen to channels, and wait until the engine has said so."""
        loop = asyncio.get_running_loop()
        homes: dict[str, list[str]] = {}
        for channel in channels:
            homes.setdefault(self.engine.home_of(channel), []).append(channel)
        answers = []
        for home, names in homes.items():
            link = await self.link_to(home)
            for name in names:
                answer = loop.create_future()
                self.waiting.setdefault(name.encode(), []).append(answer)
                answers.append(answer)
            at_once = 1 if self.engine.sharded else CHANNELS_PER_COMMAND
            for start in range(0, len(names), at_once):
                chunk = names[start : start + at_once]
                self.send(link, self.engine.subscribe[0], *chunk)
        if answers:
            await asyncio.gather(*answers)

    async def link_to(self, home: str) -> Wire:
        """The connection to a server, made when it is first needed."""
        link = self.links.get(home)
        if link is None:
            connection = await self.engine.open_link(home)
            self.runs.add(await run_of(connection))
            if home in self.links:
                await connection.disconnect(nowait=True)
                return self.links[home]
            link = Wire(connection, lambda answer: self.hear(home, answer), self.lose)
            self.links[home] = link
        return link

    def send(self, link: Wire, *command: str) -> None:
        """Write a command; its answer comes among the messages."""
        try:
            link.send(*command)
        except FAILURES as error:
            self.lose(error)

    def lose(self, error: Exception) -> None:
        """A connection has broken."""
        self.restart(failure_reason(error))

    def hear(self, home: str, answer: Any) -> None:
        """Take what comes on one connection."""
        self.heard.add(home)
        try:
            self.take(answer)
        except FAILURES as error:
            self.lose(error)

    def take(self, answer: list[Any]) -> None:
        """Take one message, or the answer to a command.

        Raises:
            ConnectionError: It says that listening cannot go on like this.
        """
        if isinstance(answer, Exception):
            raise ConnectionError(str(answer))
        kind = answer[0]
        if kind in (b"message", b"smessage"):
            try:
                self.on_message(answer[1], answer[2])
            except Exception:
                logger.exception("what came on %r cannot be used", answer[1])
        elif kind in (b"subscribe", b"ssubscribe"):
            waiting = self.waiting.get(answer[1])
            if waiting:
                first = waiting.pop(0)
                if not first.done():
                    first.set_result(None)
                if not waiting:
                    del self.waiting[answer[1]]
        elif kind in (b"unsubscribe", b"sunsubscribe"):
            asked = self.ended.get(answer[1])
            if not asked:
                raise ConnectionError("a room has moved to another server of the cluster")
            asked.pop(0)()
            if not asked:
                del self.ended[answer[1]]

    async def stop(self) -> None:
        """Listen no more."""
        self.listening = self.restored = False
        self.broken = None
        links, self.links = self.links, {}
        for link in links.values():
            await link.close()
        self.ended.clear()
        self.heard.clear()
        self.runs.clear()
        waiting, self.waiting = self.waiting, {}
        for each in waiting.values():
            for future in each:
                if not future.done():
                    future.set_exception(ConnectionError("the engine has gone"))
                    future.exception()  # asyncio would else complain where nobody waits any more


def nothing() -> None:
    """What follows where nothing is to follow."""

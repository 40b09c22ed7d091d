"""Backends under test, and a node that writes down what it is given."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.base import Address, Backend, Entry, History, Position, Timing

from .engines import Engine

T = TypeVar("T")

WAIT_SECONDS = 15.0
TIMING = Timing(grace_seconds=0.2, heartbeat_seconds=0.2, expiry_seconds=0.8, answer_seconds=1.0)
HISTORY = History(messages=10, seconds=60.0)

prefixes = (f"test-{number}" for number in itertools.count())


@dataclass
class Recorder:
    """A node that writes down what its backend gives it."""

    backend: Backend
    entries: list[tuple[str, Entry]] = field(default_factory=list)
    direct: list[Entry] = field(default_factory=list)
    lost: list[tuple[str, Position | None]] = field(default_factory=list)
    found: list[tuple[str, Position | None]] = field(default_factory=list)

    def deliver(self, room: str, entry: Entry) -> None:
        self.entries.append((room, entry))

    def deliver_direct(self, entry: Entry) -> None:
        self.direct.append(entry)

    def lose_track(self, room: str) -> None:
        self.lost.append((room, self.backend.position(room)))

    def find_track(self, room: str) -> None:
        self.found.append((room, self.backend.position(room)))

    def said(self, room: str) -> list[str]:
        """What has been said in a room, as text."""
        return [entry.data.decode() for name, entry in self.entries if name == room]

    def has_said(self, room: str, words: str) -> bool:
        """Whether something is the last that has been said in a room."""
        return self.said(room)[-1:] == [words]

    def positions(self, room: str) -> list[Position | None]:
        """The places of what has been said in a room."""
        return [entry.position for name, entry in self.entries if name == room]


def text(words: str, address: Address | None = None) -> Entry:
    """Something to say."""
    return Entry(words.encode(), address) if address else Entry(words.encode())


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""

    async def ask() -> bool:
        return condition()

    await until_answer(ask, True)


async def until_answer(ask: Callable[[], Awaitable[T]], expected: T) -> None:
    """Ask again and again until the answer is the expected one."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await ask() != expected:  # noqa: ASYNC110 - nothing tells when it changes
            await asyncio.sleep(0.005)


class Nodes:
    """Some nodes of one cluster; with the memory backend all of them are one."""

    def __init__(self, engine: Engine | None, timing: Timing = TIMING) -> None:
        self.engine = engine
        self.timing = timing
        self.prefix = next(prefixes)
        self.running: list[Recorder] = []

    @property
    def url(self) -> str:
        return self.engine.url if self.engine is not None else ""

    async def start(self) -> Recorder:
        """One more node."""
        if self.engine is None and self.running:
            return self.running[0]
        backend = backend_from_url(self.url, prefix=self.prefix, timing=self.timing)
        recorder = Recorder(backend)
        backend.node = recorder
        await backend.start()
        self.running.append(recorder)
        return recorder

    async def stop(self, recorder: Recorder) -> None:
        """End a node in order."""
        self.running.remove(recorder)
        await recorder.backend.stop()

    def stored(self) -> list[str]:
        """What the engine holds of this cluster, without the list of nodes."""
        assert self.engine is not None
        keys = [key.removeprefix(f"{self.prefix}:") for key in self.engine.keys(f"{self.prefix}:*")]
        return [key for key in keys if not key.startswith("{%nodes}:")]


@contextlib.asynccontextmanager
async def cluster(engine: Engine | None, timing: Timing = TIMING) -> AsyncIterator[Nodes]:
    """Nodes that end with the test."""
    nodes = Nodes(engine, timing)
    try:
        yield nodes
    finally:
        for recorder in list(nodes.running):
            await nodes.stop(recorder)

"""The line between a page and the service, which a test can cut and mend while both live on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from .pages import WAIT_SECONDS

CHUNK_BYTES = 65_536


class Line:
    """A relay on a port of its own; what a test asks for has happened when the method returns.

    Attributes:
        url: Where the page finds the service.
    """

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.url = ""
        self.target = urlsplit(url)
        self.loop = loop
        self.is_cut = False
        self.is_deaf = False
        self.writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End all connections without a word, and each new one until the line is mended."""
        self.do(self.set(is_cut=True, is_deaf=False))

    def deafen(self) -> None:
        """Lose what the service says; what the page says still arrives. Mending ends it."""
        self.do(self.set(is_cut=False, is_deaf=True))

    def mend(self) -> None:
        """Carry everything again, on connections that begin from now on."""
        self.do(self.set(is_cut=False, is_deaf=False))

    def do(self, action: Coroutine[None, None, None]) -> None:
        """Let it happen in the relay's own thread."""
        asyncio.run_coroutine_threadsafe(action, self.loop).result(WAIT_SECONDS)

    async def set(self, *, is_cut: bool, is_deaf: bool) -> None:
        """Become so."""
        self.is_cut, self.is_deaf = is_cut, is_deaf
        for writer in self.writers if is_cut else ():
            writer.transport.abort()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, both ways, until either side ends it."""
        with contextlib.suppress(OSError):
            if self.is_cut:
                writer.transport.abort()
                return
            there = await asyncio.open_connection(self.target.hostname, self.target.port)
            both = {writer, there[1]}
            self.writers |= both
            try:
                answers = asyncio.create_task(self.carry(there[0], writer, from_service=True))
                await self.carry(reader, there[1], from_service=False)
                await answers
            finally:
                self.writers -= both

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_service: bool
    ) -> None:
        """Carry one direction to its end."""
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if not (from_service and self.is_deaf):
                    writer.write(data)
                    await writer.drain()
        writer.close()


@contextmanager
def line_to(url: str) -> Iterator[Line]:
    """Lay a line to a service for the length of a ``with``."""
    loop = asyncio.new_event_loop()
    line = Line(url, loop)
    started = threading.Event()
    stopping = asyncio.Event()

    async def run() -> None:
        async with await asyncio.start_server(line.relay, "127.0.0.1", 0) as listening:
            line.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            started.set()
            await stopping.wait()
            listening.close()
            await line.set(is_cut=True, is_deaf=False)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=WAIT_SECONDS)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    try:
        assert started.wait(WAIT_SECONDS), "the line is not laid"
        yield line
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive(), "the line does not end"
        loop.close()

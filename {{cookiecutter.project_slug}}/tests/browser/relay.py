"""A TCP relay between a page and the service, which a test can interrupt and restore."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from .pages import WAIT_SECONDS

CHUNK_BYTES = 65_536


class Relay:
    """A relay on its own port. Its methods return when they have taken effect.

    Attributes:
        url: The URL for the page.
    """

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.url = ""
        self.target = urlsplit(url)
        self.loop = loop
        self.is_cut = False
        self.is_muted = False
        self.writers: set[asyncio.StreamWriter] = set()
        self.silent: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Abort all connections, and new ones until ``restore``."""
        self.run(self.set(is_cut=True, is_muted=False))

    def mute(self) -> None:
        """Drop data from the service until ``restore``; data from the page still arrives."""
        self.run(self.set(is_cut=False, is_muted=True))

    def silence(self) -> None:
        """Drop the data of all open connections from now on, in both directions; new ones work."""
        self.run(self.silence_open())

    def restore(self) -> None:
        """Relay new connections again."""
        self.run(self.set(is_cut=False, is_muted=False))

    def run(self, action: Coroutine[None, None, None]) -> None:
        """Run a coroutine in the relay's thread."""
        asyncio.run_coroutine_threadsafe(action, self.loop).result(WAIT_SECONDS)

    async def set(self, *, is_cut: bool, is_muted: bool) -> None:
        """Set the state; a cut aborts the open connections."""
        self.is_cut, self.is_muted = is_cut, is_muted
        for writer in self.writers if is_cut else ():
            writer.transport.abort()

    async def silence_open(self) -> None:
        """Mark the open connections."""
        self.silent |= self.writers

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay a connection until either side closes it."""
        with contextlib.suppress(OSError):
            if self.is_cut:
                writer.transport.abort()
                return
            service = await asyncio.open_connection(self.target.hostname, self.target.port)
            both = {writer, service[1]}
            self.writers |= both
            try:
                answers = asyncio.create_task(self.copy(service[0], writer, from_service=True))
                await self.copy(reader, service[1], from_service=False)
                await answers
            finally:
                self.writers -= both
                self.silent -= both

    async def copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_service: bool
    ) -> None:
        """Copy one direction until its end."""
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if not (from_service and self.is_muted) and writer not in self.silent:
                    writer.write(data)
                    await writer.drain()
        writer.close()


@contextmanager
def relay_to(url: str) -> Iterator[Relay]:
    """Run a relay to a service."""
    loop = asyncio.new_event_loop()
    relay = Relay(url, loop)
    started = threading.Event()
    stopping = asyncio.Event()

    async def run() -> None:
        async with await asyncio.start_server(relay.relay, "127.0.0.1", 0) as listening:
            relay.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            started.set()
            await stopping.wait()
            listening.close()
            await relay.set(is_cut=True, is_muted=False)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=WAIT_SECONDS)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    try:
        assert started.wait(WAIT_SECONDS), "the relay has not started"
        yield relay
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive(), "the relay has not stopped"
        loop.close()

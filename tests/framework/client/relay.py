"""A TCP relay between a client and a server: it drops connections, goes silent, changes its target."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """The relay of one test.

    Attributes:
        port: The port on 127.0.0.1.
        target: The port of the server; ``None`` refuses connections.
        accepted: The number of connections so far.
        flowing: Whether bytes are passed on.
    """

    def __init__(self) -> None:
        self.port = 0
        self.target: int | None = None
        self.accepted = 0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.writers: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on in both directions until either side ends."""
        self.accepted += 1
        self.writers.add(writer)
        if self.target is None:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self.writers.add(back)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self.pump(source, sink))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pass bytes on in one direction."""
        try:
            while data := await source.read(65_536):
                await self.flowing.wait()
                sink.write(data)
                await sink.drain()
            sink.close()
        except OSError:
            sink.transport.abort()

    def drop(self) -> None:
        """Abort all connections."""
        writers, self.writers = self.writers, set()
        for writer in writers:
            writer.transport.abort()


@asynccontextmanager
async def relay_to(port: int | None) -> AsyncIterator[Relay]:
    """Run a relay to a port."""
    relay = Relay()
    relay.target = port
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        relay.flowing.set()
        relay.drop()
        tasks = list(relay.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

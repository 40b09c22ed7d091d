"""A TCP proxy in front of Redis, with the faults of a network."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

from .redis_servers import free_port

CHUNK_BYTES = 64 * 1024


class FaultyProxy:
    """A TCP proxy between one node and Redis that can stop forwarding without closing connections.

    Attributes:
        to_server: Cleared while data from the node is held back.
        to_node: Cleared while data from the server is held back.
        tasks: One task per connection.
    """

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.port = free_port()
        self.to_server = asyncio.Event()
        self.to_node = asyncio.Event()
        self.release()
        self.writers: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Forward connections during an ``async with``."""
        server = await asyncio.start_server(self.handle, "127.0.0.1", self.port)
        try:
            yield
        finally:
            self.release()
            server.close()
            self.reset_connections()
            if self.tasks:
                await asyncio.wait(self.tasks)

    def release(self) -> None:
        """Forward in both directions, beginning with the data held back."""
        self.to_server.set()
        self.to_node.set()

    def reset_connections(self) -> None:
        """Reset all connections."""
        for writer in self.writers:
            if writer.is_closing():
                continue
            connected = writer.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection; close it at once if the server does not listen."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self.writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                await self.to_server.wait()
                from_server, server = await asyncio.open_connection("127.0.0.1", self.server_port)
                self.writers.add(server)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(forward(reader, server, self.to_server))
                        group.create_task(forward(from_server, writer, self.to_node))
                finally:
                    self.writers.discard(server)
                    server.transport.abort()
        finally:
            self.writers.discard(writer)
            writer.transport.abort()


async def forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
) -> None:
    """Forward one direction until either side closes, then close the other; wait while the gate is cleared."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            await gate.wait()
            writer.write(data)
            await writer.drain()
    await gate.wait()
    writer.transport.close()  # after all data has been written

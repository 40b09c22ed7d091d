"""One connection to the engine, without anything between the socket and the parser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionBroken


class Wire(asyncio.Protocol):
    """A connection that redis-py has made, with TLS and a signed-in user if there are to be, and that is ours now.

    PERF: answers and messages are parsed where they arrive, and commands are written at once. Through
    redis-py's streams each of them wakes a task, and a broadcast over an engine costs twice as much.

    Attributes:
        connection: redis-py's, which is only closed any more.

    Args:
        connection: Connected, with nothing on its way.
        on_answer: Called with each answer or message, as hiredis parses it; an error is an exception.
        on_lost: Called once when the connection has broken.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        on_answer: Callable[[Any], None],
        on_lost: Callable[[Exception], None],
    ) -> None:
        self.connection = connection
        self.on_answer = on_answer
        self.on_lost = on_lost
        self.reader = hiredis.Reader()
        writer = connection._writer
        if writer is None:
            raise ConnectionBroken("the connection has broken at once")
        self.transport: Any = writer.transport
        self.transport.set_protocol(self)

    def send(self, *command: Any) -> None:
        """Write a command.

        Raises:
            redis.exceptions.ConnectionError: The connection is broken.
        """
        if self.transport.is_closing():
            raise ConnectionBroken("the connection is broken")
        self.transport.write(hiredis.pack_command(command))

    def data_received(self, data: bytes) -> None:
        """Take what the engine sends."""
        try:
            self.reader.feed(data)
            while (answer := self.reader.gets()) is not False:
                self.on_answer(answer)
        except hiredis.ProtocolError as error:
            self.transport.abort()
            self.on_lost(ConnectionBroken(f"what it says cannot be understood: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has ended."""
        reason = str(error) if error else "the engine has closed the connection"
        self.on_lost(ConnectionBroken(reason))

    async def close(self) -> None:
        """Close it without waiting for what is on its way."""
        self.on_lost = ignore
        self.transport.abort()
        await self.connection.disconnect(nowait=True)


def ignore(error: Exception) -> None:
    """Nobody needs to know."""

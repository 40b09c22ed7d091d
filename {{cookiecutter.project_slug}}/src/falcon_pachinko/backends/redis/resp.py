"""A RESP connection to Redis or Valkey: sockets and parser without a layer in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from ...support.tasks import ignore


class RespConnection(asyncio.Protocol):
    """A connection that redis-py has opened (TLS, authentication) and that this object takes over.

    PERF: replies and messages are parsed on arrival, and commands are written at once. redis-py's streams
    wake a task for each of them, which doubles the cost of a broadcast over Redis.

    Attributes:
        connection: redis-py's connection, used only to close it.

    Args:
        connection: An open connection without pending replies.
        on_reply: Called with each reply or message, as hiredis parses it; an error is an exception.
        on_lost: Called once when the connection is lost.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        on_reply: Callable[[Any], None],
        on_lost: Callable[[Exception], None],
    ) -> None:
        self.connection = connection
        self.on_reply = on_reply
        self.on_lost = on_lost
        self.reader = hiredis.Reader()
        writer = connection._writer
        if writer is None:
            raise RedisConnectionError("the connection was lost at once")
        self.transport: Any = writer.transport
        self.transport.set_protocol(self)

    @property
    def is_lost(self) -> bool:
        """Whether the connection is known to be lost, or has been closed."""
        return bool(self.transport.is_closing())

    def send(self, *command: Any) -> None:
        """Write a command.

        Raises:
            redis.exceptions.ConnectionError: The connection is lost.
        """
        if self.is_lost:
            raise RedisConnectionError("the connection is lost")
        self.transport.write(hiredis.pack_command(command))

    def data_received(self, data: bytes) -> None:
        """Parse replies and pass them on."""
        try:
            self.reader.feed(data)
            while (reply := self.reader.gets()) is not False:
                self.on_reply(reply)
        except hiredis.ProtocolError as error:
            self.transport.abort()
            self.on_lost(RedisConnectionError(f"a reply is not valid RESP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the loss of the connection."""
        reason = str(exc) if exc else "Redis has closed the connection"
        self.on_lost(RedisConnectionError(reason))

    async def close(self) -> None:
        """Close the connection without waiting for pending replies."""
        self.on_lost = ignore
        self.transport.abort()
        await self.connection.disconnect(nowait=True)

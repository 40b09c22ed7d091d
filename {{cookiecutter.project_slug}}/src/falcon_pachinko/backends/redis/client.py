"""Clients of Redis or Valkey: they run the script and open pub/sub connections."""

from __future__ import annotations

import asyncio
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    RedisClusterException,
    RedisError,
    ResponseError,
)

from ...support.tasks import ignore
from .resp import RespConnection
from .script import ENCODE, LUA, NO_OPERATIONS, SHA

# A server's clock that is further ahead than this, against the last reply, has jumped.
JUMP_MS = 1_000

# The exceptions, of redis-py or asyncio, that mean that Redis is unavailable.
CONNECTION_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)

# The name of an operation, the hash tag of its room or of the nodes, and its arguments.
Request = Sequence[Any]


class RedisClient(ABC):
    """Runs the script and opens pub/sub connections.

    Attributes:
        sharded: Whether pub/sub is sharded: each channel belongs to the server of its slot.
        subscribe_command: The command that subscribes to channels.
        unsubscribe_command: The command that unsubscribes from channels.
        database: The number of the database.
        clock_offsets_ms: For each server, how far its clock is ahead of the event loop's, at least.
        max_offsets_ms: Likewise, at most: the reply may have been on its way for long.
        on_clock_jump: Called with the milliseconds by which a server's clock has jumped ahead; see
            :data:`JUMP_MS`.
        in_doubt: Returns, for each call that is sent, whether nodes may have been unable to renew their leases.

    Args:
        prefix: Prefix of all keys and channels.
        answer_seconds: The time Redis may take to respond.
        history_bytes: The maximum size of all histories in a server, enforced by each call; 0 for a client
            that enforces none.
    """

    sharded = False
    database = 0
    subscribe_command = "SUBSCRIBE"
    unsubscribe_command = "UNSUBSCRIBE"

    def __init__(self, prefix: str, answer_seconds: float, history_bytes: int = 0) -> None:
        self.prefix = prefix
        self.history_bytes = history_bytes
        self.answer_seconds = answer_seconds
        self.clock_offsets_ms: dict[str, float] = {}
        self.max_offsets_ms: dict[str, float] = {}
        self.on_clock_jump: Callable[[float], object] = ignore
        self.in_doubt: Callable[[], bool] = lambda: False

    @functools.cached_property
    def channel_prefix(self) -> str:
        """The prefix of all channels: that of the keys, and the database, which pub/sub does not separate."""
        return f"{self.prefix}:{self.database}"

    def channel(self, tag: str) -> str:
        """Return the channel of a room or of nodes, given its hash tag with an optional suffix."""
        return f"{self.channel_prefix}:{tag}"

    def tag(self, channel: str) -> str:
        """Return the hash tag of a channel, with its suffix."""
        return channel[len(self.channel_prefix) + 1 :]

    def age_seconds(self, tag: str, published_ms: int) -> float:
        """Return how long ago a publication was made, by the clock of a room's server; 0 before its first reply."""
        ahead_ms = self.clock_offsets_ms.get(self.server_of(self.channel(tag)))
        if ahead_ms is None:
            return 0.0
        now_ms = asyncio.get_running_loop().time() * 1000 + ahead_ms
        return max(0.0, now_ms - published_ms) / 1000

    @abstractmethod
    async def execute(self, operations: Sequence[Request]) -> list[Any]:
        """Execute operations in order and return their results; a failed one has an exception as result.

        Raises:
            redis.exceptions.RedisError: They were executed or not, and will not be executed later; the
                same holds for OSError and TimeoutError.
        """

    async def execute_until(self, deadline: float, tag: str, packed: bytes) -> list[Any]:
        """Execute encoded operations on the server of a room, unless they reach it after a deadline.

        A network or server that was frozen may deliver operations after the node has given them up,
        reconnected and sent newer ones. The deadline is in the server's time, known from its replies; for
        the first call, and after a change of the server's clock, a reply without results gives the time.

        Raises:
            redis.exceptions.RedisError: See :meth:`execute`.
            TimeoutError: The deadline has passed; nothing was executed.
        """
        loop = asyncio.get_running_loop()
        while True:
            server = self.server_of(self.channel(tag))
            offset_ms = self.clock_offsets_ms.get(server)
            deadline_ms = 0 if offset_ms is None else round(deadline * 1000 + offset_ms)
            sent_ms = loop.time() * 1000
            *results, now_ms = await self.run_script(tag, packed, deadline_ms)
            least_ms, most_ms = now_ms - loop.time() * 1000, now_ms - sent_ms
            ahead_ms = least_ms - self.max_offsets_ms.get(server, math.inf)
            if offset_ms is not None and ahead_ms > JUMP_MS:
                self.on_clock_jump(ahead_ms)
            self.clock_offsets_ms[server], self.max_offsets_ms[server] = least_ms, most_ms
            if results or packed == NO_OPERATIONS:
                return results
            # NOTE: before Python 3.12, asyncio.wait_for (used by redis-py) may swallow the cancellation at the deadline
            #   (https://github.com/python/cpython/issues/86296).
            if loop.time() >= deadline:
                raise TimeoutError("the operations reached Redis after their deadline")

    @abstractmethod
    async def run_script(self, tag: str, packed: bytes, deadline_ms: int) -> list[Any]:
        """Run the script on the server of a room.

        Args:
            tag: The room's hash tag.
            packed: The encoded operations.
            deadline_ms: The server's time after which the script does nothing.

        Raises:
            redis.exceptions.RedisError: See :meth:`execute`.
        """

    @abstractmethod
    async def drop_connection(self) -> None:
        """Make the next call use a new connection."""

    @abstractmethod
    async def refresh_topology(self) -> None:
        """Look up the servers again."""

    @abstractmethod
    def servers(self) -> list[str]:
        """Return the names of the servers that have keys; of a cluster, once its topology is known."""

    @abstractmethod
    def server_of(self, channel: str) -> str:
        """Return the name of the server that publishes to a channel."""

    @abstractmethod
    async def open_pubsub_connection(self, server: str) -> AbstractConnection:
        """Open a connection for pub/sub. It has no read timeout; the caller monitors it."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections."""


class SingleClient(RedisClient):
    """A client of one server, or of the master that Sentinels report.

    Args:
        pool: Creates connections to the server.
        sentinels: The clients of the Sentinels, if there are any.
        prefix: Prefix of all keys and channels.
        answer_seconds: The time Redis may take to respond.
        history_bytes: The maximum size of all histories in the server.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        sentinels: list[Redis],
        prefix: str,
        answer_seconds: float,
        history_bytes: int = 0,
    ) -> None:
        super().__init__(prefix, answer_seconds, history_bytes)
        self.pool = pool
        self.database = int(pool.connection_kwargs.get("db") or 0)
        self.sentinels = sentinels
        # Raises for options that redis-py does not know.
        self.pool.make_connection()  # type: ignore[no-untyped-call]
        self.connection: RespConnection | None = None
        self.reply: asyncio.Future[Any] | None = None
        self.deadline = 0.0
        self.timer: asyncio.TimerHandle | None = None

    async def execute(self, operations: Sequence[Request]) -> list[Any]:
        """Execute operations, one call at a time on one connection."""
        deadline = asyncio.get_running_loop().time() + self.answer_seconds
        try:
            if self.connection is None or self.connection.is_lost:
                async with asyncio.timeout_at(deadline):
                    await self.reconnect()
            self.deadline = deadline
            return await self.execute_until(deadline, "", ENCODE(operations))
        except BaseException:
            await self.drop_connection()
            raise

    def check_deadline(self) -> None:
        """End the command in progress if the deadline of its call has passed.

        PERF: one timer serves successive calls; ``asyncio.timeout`` for each is a tenth of what a node pays for a call.
        """
        self.timer = None
        if self.reply is None or self.reply.done():
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self.deadline:
            self.reply.set_exception(TimeoutError())
        else:
            self.timer = loop.call_at(self.deadline, self.check_deadline)

    async def reconnect(self) -> None:
        """Open a new connection in the place of a lost one."""
        await self.drop_connection()
        connection = await connect(self.pool)
        self.connection = RespConnection(connection, self.on_reply, self.on_reply)
        self.clock_offsets_ms.clear()

    async def run_script(self, tag: str, packed: bytes, deadline_ms: int) -> list[Any]:
        """Run the script; load it first if the server does not have it."""
        prefixes = (self.prefix, self.channel_prefix)
        doubt = int(self.in_doubt())
        arguments = (0, *prefixes, "0", packed, deadline_ms, self.history_bytes, doubt)
        reply = await self.send("EVALSHA", SHA, *arguments)
        if isinstance(reply, Exception) and str(reply).startswith("NOSCRIPT"):
            reply = await self.send("EVAL", LUA, *arguments)
        if isinstance(reply, Exception):
            raise ResponseError(str(reply))
        results: list[Any] = reply
        return results

    async def send(self, *command: str | bytes | int) -> Any:
        """Write a command, and return the next reply."""
        assert self.connection is not None
        self.reply = asyncio.get_running_loop().create_future()
        if self.timer is None:
            self.timer = self.reply.get_loop().call_at(self.deadline, self.check_deadline)
        self.connection.send(*command)
        return await self.reply

    def on_reply(self, reply: Any) -> None:
        """Complete the pending command with a reply, or with the error of a lost connection."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_result(reply)

    async def drop_connection(self) -> None:
        """Close the connection: a reply may be pending, or the address may lead to a new server."""
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.close()

    async def refresh_topology(self) -> None:
        """Do nothing: each new connection asks the Sentinels, and a single server does not move."""

    def servers(self) -> list[str]:
        """Return the one server, whose name is empty."""
        return [self.server_of("")]

    def server_of(self, channel: str) -> str:
        """Return the same name for all channels."""
        return ""

    async def open_pubsub_connection(self, server: str) -> AbstractConnection:
        """Open a connection outside the pool."""
        return await connect(self.pool)

    async def aclose(self) -> None:
        """Close the connection and those to the Sentinels."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        await self.drop_connection()
        for sentinel in self.sentinels:
            await sentinel.aclose()


async def connect(pool: ConnectionPool) -> AbstractConnection:
    """Open a connection with a pool's options outside the pool, so that no other task can take it."""
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection

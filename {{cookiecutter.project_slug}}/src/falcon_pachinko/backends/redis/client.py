"""Where the engine is, Redis or Valkey, alone, behind Sentinels or as a cluster, and how it is called."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as NoAnswer
from redis.maint_notifications import MaintNotificationsConfig

from ...errors import RegistrationError
from .resp import Wire
from .script import ENCODE, LUA, SHA

logger = logging.getLogger(__name__)

DEFAULT_SENTINEL_PORT = 26379

# What INFO says of a server: another one after each start.
RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)

# What says that the engine cannot be reached, whichever layer finds out.
FAILURES = (
    RedisError,
    RedisClusterException,
    OSError,
    TimeoutError,
    NoAnswer,
    ConnectionBroken,
)

Operation = Sequence[Any]


class Engine(ABC):
    """Calls the script, and opens the connections on which a node listens.

    Attributes:
        subscribe: The commands that begin and end listening to channels.

    Args:
        prefix: What the names of all keys and channels begin with.
        answer_seconds: How long it may take to answer.
    """

    sharded = False
    subscribe = ("SUBSCRIBE", "UNSUBSCRIBE")

    def __init__(self, prefix: str, answer_seconds: float) -> None:
        self.prefix = prefix
        self.answer_seconds = answer_seconds
        self.ahead_ms: dict[str, float] = {}
        """By how much the clock of a server is ahead of the event loop's, at least."""

    def channel(self, tag: str) -> str:
        """The channel of a room or of nodes, by its hash tag and what may follow."""
        return f"{self.prefix}:{tag}"

    @abstractmethod
    async def call(self, operations: Sequence[Operation]) -> list[Any]:
        """Do operations in their order and return their results; what failed is an exception among them.

        Raises:
            redis.exceptions.RedisError: They may have been done or not, and will not be done any more; so
                with OSError and TimeoutError.
        """

    async def do_until(self, until: float, tag: str, operations: Sequence[Operation]) -> list[Any]:
        """Let the server of a room do operations, unless they come to it later than ``until``.

        A network or a server that stood still may go on with them when the node has given them up, has come
        back and has said the contrary. What the server's clock shows is learnt from each answer; the first
        time, and where that clock has been set, from one that says no more than the time.

        Raises:
            redis.exceptions.RedisError: See :meth:`call`.
        """
        loop = asyncio.get_running_loop()
        packed = ENCODE(operations)
        while True:
            server = self.home_of(self.channel(tag))
            ahead_ms = self.ahead_ms.get(server)
            until_ms = 0 if ahead_ms is None else round(until * 1000 + ahead_ms)
            *results, now = await self.evaluate(tag, packed, until_ms)
            self.ahead_ms[server] = now - loop.time() * 1000
            if results:
                return results

    @abstractmethod
    async def evaluate(self, tag: str, packed: bytes, until_ms: int) -> list[Any]:
        """Call the script on the server that has a room.

        Args:
            tag: The room's hash tag.
            packed: The operations.
            until_ms: The time of that server after which it is to do nothing.

        Raises:
            redis.exceptions.RedisError: See :meth:`call`.
        """

    @abstractmethod
    async def let_go(self) -> None:
        """Make the next call over another connection."""

    @abstractmethod
    async def look_around(self) -> None:
        """Find out anew where everything is."""

    @abstractmethod
    def home_of(self, channel: str) -> str:
        """Which server a channel is listened to at."""

    @abstractmethod
    async def open_link(self, home: str) -> AbstractConnection:
        """A connection to listen on. It has no time limit for reading; whoever reads has to watch it."""

    @abstractmethod
    async def close(self) -> None:
        """Close what is open."""


class SingleEngine(Engine):
    """One server, or the master of those that Sentinels watch."""

    def __init__(self, url: str, prefix: str, answer_seconds: float) -> None:
        super().__init__(prefix, answer_seconds)
        self.pool, self.sentinels = make_pool(url, answer_seconds)
        self.pool.make_connection()  # type: ignore[no-untyped-call]  # options that nobody knows show here
        self.wire: Wire | None = None
        self.answer: asyncio.Future[Any] | None = None

    async def call(self, operations: Sequence[Operation]) -> list[Any]:
        """Do operations, one call after the other on one connection."""
        until = asyncio.get_running_loop().time() + self.answer_seconds
        try:
            async with asyncio.timeout_at(until):
                if self.wire is None:
                    connection = await connect(self.pool)
                    self.wire = Wire(connection, self.take_answer, self.lose)
                    self.ahead_ms.clear()
                return await self.do_until(until, "", operations)
        except BaseException:
            await self.let_go()
            raise

    async def evaluate(self, tag: str, packed: bytes, until_ms: int) -> list[Any]:
        """Call the script."""
        rest = (0, self.prefix, "0", packed, until_ms)
        answer = await self.ask("EVALSHA", SHA, *rest)
        if isinstance(answer, Exception) and str(answer).startswith("NOSCRIPT"):
            answer = await self.ask("EVAL", LUA, *rest)
        if isinstance(answer, Exception):
            raise ResponseError(str(answer))
        results: list[Any] = answer
        return results

    def ask(self, *command: str | bytes | int) -> asyncio.Future[Any]:
        """Write a command; its answer is the next one that comes."""
        assert self.wire is not None
        self.answer = asyncio.get_running_loop().create_future()
        self.wire.send(*command)
        return self.answer

    def take_answer(self, answer: Any) -> None:
        """Give the answer to who waits for it."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(answer)

    def lose(self, error: Exception) -> None:
        """Tell who waits for an answer that there will be none."""
        self.take_answer(error)

    async def let_go(self) -> None:
        """Close the connection: an answer may still be on its way, or its name mean another server now."""
        wire, self.wire = self.wire, None
        if wire is not None:
            await wire.close()

    async def look_around(self) -> None:
        """Sentinels are asked with each new connection; a server is where it is."""

    def home_of(self, channel: str) -> str:
        """There is only one."""
        return ""

    async def open_link(self, home: str) -> AbstractConnection:
        """A connection of its own."""
        return await connect(self.pool)

    async def close(self) -> None:
        """Close what is open."""
        await self.let_go()
        for sentinel in self.sentinels:
            await sentinel.aclose()


class ClusterEngine(Engine):
    """A cluster: each room is on one of its servers, and is listened to there."""

    sharded = True
    subscribe = ("SSUBSCRIBE", "SUNSUBSCRIBE")

    def __init__(self, url: str, prefix: str, answer_seconds: float) -> None:
        super().__init__(prefix, answer_seconds)
        self.url = url
        self.cluster = self.make_cluster()

    def make_cluster(self) -> RedisCluster:
        """A client that has not asked anybody yet."""
        return RedisCluster.from_url(
            self.url,
            protocol=2,
            socket_timeout=self.answer_seconds,
            socket_connect_timeout=self.answer_seconds,
            # NOTE: what is tried again may be said twice.
            retry=Retry(NoBackoff(), 0),
        )

    async def call(self, operations: Sequence[Operation]) -> list[Any]:
        """Do the operations of each room in their order, those of different rooms at once.

        What a node says of itself stands before or after all others: it says where it has somebody before
        somebody is there, and that nobody is there any more after that.
        """
        results: list[Any] = [None] * len(operations)
        phases: list[dict[str, list[int]]] = []
        for index, operation in enumerate(operations):
            tag = operation[1]
            about_nodes = tag.startswith("{%nodes}")
            key = "{%nodes}" if about_nodes else tag
            if not phases or about_nodes is not ("{%nodes}" in phases[-1]):
                phases.append({})
            phases[-1].setdefault(key, []).append(index)
        until = asyncio.get_running_loop().time() + self.answer_seconds
        async with asyncio.timeout_at(until):
            for phase in phases:
                asked = [
                    self.do_until(until, tag, [operations[index] for index in indexes])
                    for tag, indexes in phase.items()
                ]
                # NOTE: all of them end before the first failure is told, or one could come after what follows.
                answers = await asyncio.gather(*asked, return_exceptions=True)
                for indexes, answer in zip(phase.values(), answers, strict=True):
                    if isinstance(answer, BaseException):
                        raise answer
                    for index, result in zip(indexes, answer, strict=True):
                        results[index] = result
        return results

    async def evaluate(self, tag: str, packed: bytes, until_ms: int) -> list[Any]:
        """Call the script on the server that has a room."""
        # NOTE: a server whose slot is on its way to another one answers by the keys that are named.
        keys = [f"{self.channel(tag)}:{key}" for key in ("m", "s", "p")]
        rest: tuple[Any, ...] = (len(keys), *keys, self.prefix, "1", packed, until_ms)
        try:
            results: list[Any] = await self.cluster.execute_command("EVALSHA", SHA, *rest)
        except NoScriptError:
            results = await self.cluster.execute_command("EVAL", LUA, *rest)
        return results

    async def let_go(self) -> None:
        """There are many connections; :meth:`look_around` makes all of them anew."""

    async def look_around(self) -> None:
        """Ask for the slots anew."""
        # NOTE: first another one: a closed client opens itself anew for whoever calls it meanwhile.
        old, self.cluster = self.cluster, self.make_cluster()
        await old.aclose()
        await self.cluster.initialize()

    def home_of(self, channel: str) -> str:
        """The server that has the channel's slot."""
        node = self.cluster.get_node_from_key(channel)
        if node is None:
            raise ConnectionBroken(f"no server has the slot of {channel!r}")
        name: str = node.name
        return name

    async def open_link(self, home: str) -> AbstractConnection:
        """A connection to that server."""
        node = self.cluster.get_node(node_name=home)
        if node is None:
            raise ConnectionBroken(f"{home} has left the cluster")
        given: dict[str, Any] = dict(node.connection_kwargs)
        given.update(socket_timeout=None, host=node.host, port=node.port)
        connection: AbstractConnection = node.connection_class(**given)
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    async def close(self) -> None:
        """Close what is open."""
        await self.cluster.aclose()


def make_engine(url: str, prefix: str, answer_seconds: float) -> Engine:
    """The engine that a URL names.

    Args:
        url: ``redis://``, ``rediss://`` and ``unix://`` as redis-py reads them;
            ``redis+sentinel://host:port,host:port/service/database`` for the master that Sentinels know;
            ``redis+cluster://host:port`` for any server of a cluster; the last two also with ``rediss``.
        prefix: What the names of all keys and channels begin with.
        answer_seconds: How long it may take to answer.

    Raises:
        RegistrationError: The URL names none.
    """
    # NOTE: what is wrong is not quoted: where a password is not percent-encoded, any part may be one of it.
    scheme = url.partition(":")[0]
    try:
        if scheme in ("redis+cluster", "rediss+cluster"):
            return ClusterEngine(url.replace("+cluster", "", 1), prefix, answer_seconds)
        return SingleEngine(url, prefix, answer_seconds)
    except (ValueError, TypeError, RedisClusterException):
        raise RegistrationError(
            f"the backend's URL with {scheme[:20]!r} cannot be used: write it like redis://127.0.0.1:6379/0,"
            " redis+cluster://10.0.0.5:6379 or redis+sentinel://10.0.0.5:26379,10.0.0.6:26379/service/0, with"
            " a password in percent-encoding, and with no options that redis-py does not know"
        ) from None


def make_pool(url: str, connect_seconds: float) -> tuple[ConnectionPool, list[Redis]]:
    """What makes connections to the server that a URL names, and the Sentinels that are asked for it.

    Raises:
        ValueError: The URL names none.
    """
    options: dict[str, Any] = {
        "protocol": 2,
        # NOTE: with a timeout redis-py writes within asyncio.wait_for, which costs a task for each call and,
        #   before Python 3.12, swallows a cancellation that comes with the end.
        "socket_timeout": None,
        "socket_connect_timeout": connect_seconds,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        # NOTE: what is tried again may be said twice.
        "retry": Retry(NoBackoff(), 0),
    }
    parts = urlsplit(url)
    if parts.scheme != "unix":
        options["socket_keepalive"] = True
    if parts.scheme in ("redis+sentinel", "rediss+sentinel"):
        service, _, database = parts.path.strip("/").partition("/")
        if not service or not (database or "0").isdecimal():
            raise ValueError("behind the Sentinels it needs /service or /service/database")
        account, _, hosts = parts.netloc.rpartition("@")
        if account:
            username, _, password = account.partition(":")
            options |= {"username": unquote(username) or None, "password": unquote(password)}
        if parts.scheme.startswith("rediss"):
            options["ssl"] = True
        places = [read_place(place) for place in hosts.split(",")]
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            places,
            sentinel_kwargs={
                key: value
                for key, value in options.items()
                if key in ("socket_connect_timeout", "ssl")
            }
            | {"socket_timeout": connect_seconds},
        )
        client: Redis = sentinel.master_for(service, db=int(database or "0"), **options)
        return client.connection_pool, sentinel.sentinels
    return ConnectionPool.from_url(url, **options), []


async def connect(pool: ConnectionPool) -> AbstractConnection:
    """A connection as a pool makes them, but of our own: in a pool it would wait for others to need it."""
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


async def run_of(connection: AbstractConnection) -> bytes:
    """What tells a server from all others, and from itself after a start; a new one each time if it may not be asked."""
    try:
        await connection.send_command("INFO", "server")
        run = RUN_ID.search(await connection.read_response())
    except NoPermissionError:
        return secrets.token_bytes()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return run[1] if run else secrets.token_bytes()


def read_place(place: str) -> tuple[str, int]:
    """A host and a port, such as ``10.0.0.1:26379`` or ``[::1]``."""
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError(f"{place!r} is no host")
    return parts.hostname, parts.port or DEFAULT_SENTINEL_PORT

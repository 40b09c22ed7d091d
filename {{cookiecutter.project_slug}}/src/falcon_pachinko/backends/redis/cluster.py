"""The client of a Redis or Valkey cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from .client import CONNECTION_ERRORS, RedisClient, Request
from .script import ENCODE, LUA, NODES, SHA


class ClusterClient(RedisClient):
    """A client of a cluster: each room has its keys and its channel on one of the servers.

    Args:
        url: The URL of any server of the cluster.
        prefix: Prefix of all keys and channels.
        answer_seconds: The time Redis may take to respond.
    """

    sharded = True
    subscribe_command = "SSUBSCRIBE"
    unsubscribe_command = "SUNSUBSCRIBE"

    def __init__(self, url: str, prefix: str, answer_seconds: float) -> None:
        super().__init__(prefix, answer_seconds)
        self.url = url
        self.cluster = self.make_cluster()

    def make_cluster(self) -> RedisCluster:
        """Create redis-py's client, without connecting."""
        return RedisCluster.from_url(
            self.url,
            protocol=2,
            socket_timeout=self.answer_seconds,
            socket_connect_timeout=self.answer_seconds,
            # NOTE: a retry could publish twice.
            retry=Retry(NoBackoff(), 0),
        )

    async def execute(self, operations: Sequence[Request]) -> list[Any]:
        """Execute the operations of each room in order, and those of different rooms concurrently."""
        results: list[Any] = [None] * len(operations)
        by_tag: dict[str, list[int]] = {}
        for index, operation in enumerate(operations):
            tag: str = operation[1]
            by_tag.setdefault(NODES if tag.startswith(NODES) else tag, []).append(index)
        # NOTE: all are encoded before the first call: what has no encoding fails before anything is executed.
        packed = [
            (tag, ENCODE([operations[index] for index in indexes]))
            for tag, indexes in by_tag.items()
        ]
        deadline = asyncio.get_running_loop().time() + self.answer_seconds
        async with asyncio.timeout_at(deadline):
            calls = [self.execute_until(deadline, tag, data) for tag, data in packed]
            # NOTE: all calls end before a failure is raised; a late one could overtake the next call.
            replies = await asyncio.gather(*calls, return_exceptions=True)
        for indexes, reply in zip(by_tag.values(), replies, strict=True):
            if isinstance(reply, BaseException):
                raise reply
            for index, result in zip(indexes, reply, strict=True):
                results[index] = result
        return results

    async def run_script(self, tag: str, packed: bytes, deadline_ms: int) -> list[Any]:
        """Run the script on the server of a room; load it first if the server does not have it."""
        # NOTE: a server whose slot is being migrated redirects by the keys that a command names.
        keys = [f"{self.prefix}:{tag}:{key}" for key in ("m", "s", "p", "n", "o", "k")]
        prefixes = (self.prefix, self.channel_prefix)
        options = (*prefixes, "1", packed, deadline_ms, 0, int(self.in_doubt()))
        arguments: tuple[Any, ...] = (len(keys), *keys, *options)
        cluster = self.cluster
        try:
            try:
                results: list[Any] = await cluster.execute_command("EVALSHA", SHA, *arguments)
            except NoScriptError:
                results = await cluster.execute_command("EVAL", LUA, *arguments)
        except (RuntimeError, AttributeError) as error:
            # NOTE: redis-py writes to a connection that was closed while it was opened, by the server or by
            #   refresh_topology(): uvloop's transport raises RuntimeError, and a missing writer AttributeError.
            raise RedisConnectionError(f"the connection was closed: {error}") from error
        return results

    async def drop_connection(self) -> None:
        """Do nothing: :meth:`refresh_topology` replaces all connections."""

    async def refresh_topology(self) -> None:
        """Replace redis-py's client, which asks for the slots."""
        # NOTE: replaced before it is closed: a closed client reopens itself for a concurrent call.
        old, self.cluster = self.cluster, self.make_cluster()
        await close(old, self.answer_seconds)
        await self.cluster.initialize()

    def servers(self) -> list[str]:
        """Return the names of the primaries."""
        return [node.name for node in self.cluster.get_primaries()]

    def server_of(self, channel: str) -> str:
        """Return the name of the server that has the channel's slot."""
        node = self.cluster.get_node_from_key(channel)
        if node is None:
            raise RedisConnectionError(f"no server has the slot of {channel!r}")
        name: str = node.name
        return name

    async def open_pubsub_connection(self, server: str) -> AbstractConnection:
        """Open a connection to a server."""
        node = self.cluster.get_node(node_name=server)
        if node is None:
            raise RedisConnectionError(f"{server} has left the cluster")
        options: dict[str, Any] = dict(node.connection_kwargs)
        options.update(socket_timeout=None, host=node.host, port=node.port)
        connection: AbstractConnection = node.connection_class(**options)
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    async def aclose(self) -> None:
        """Close redis-py's client within ``answer_seconds``."""
        await close(self.cluster, self.answer_seconds)


async def close(cluster: RedisCluster, seconds: float) -> None:
    """Close a client; abort its connections after a time.

    A server that does not respond delays it: with TLS, a connection is closed once the server has answered.
    """
    manager = cluster.nodes_manager
    # NOTE: redis-py's nodes are equal if their names are, but have connections of their own.
    nodes = [*manager.nodes_cache.values(), *manager.startup_nodes.values()]
    connections = [connection for node in nodes for connection in node._connections]
    writers = [connection._writer for connection in connections]
    try:
        # NOTE: redis-py has the same bound for each connection, and raises its own error then.
        async with asyncio.timeout(seconds):
            await cluster.aclose()
    except CONNECTION_ERRORS:
        for connection, writer in zip(connections, writers, strict=True):
            if writer is not None:
                writer.transport.abort()
            await connection.disconnect(nowait=True)

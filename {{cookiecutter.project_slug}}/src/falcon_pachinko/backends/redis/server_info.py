"""What Redis or Valkey servers report of themselves: the version, the memory, the eviction policy, the replication."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from .client import CONNECTION_ERRORS, RedisClient

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
NO_EVICTION = "noeviction"

# The time between two attempts while the servers are unavailable.
RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server's reply to INFO; fields that it lacks, or that the user may not read, have their defaults.

    Attributes:
        server: The name of the server; empty for one that is not in a cluster.
        version: The version of Redis, or the one that Valkey is compatible with.
        maxmemory_bytes: The bound of its memory; 0 for none.
        maxmemory_policy: The eviction policy at the bound.
        replication_id: The id that the script compares with that of the server which has numbered a room.
    """

    server: str
    version: str = ""
    maxmemory_bytes: int = 0
    maxmemory_policy: str = UNKNOWN
    replication_id: str = ""

    @property
    def evicts(self) -> bool:
        """Whether the server deletes keys at its bound, so that a room can lose its numbering or its users."""
        return bool(self.maxmemory_bytes) and self.maxmemory_policy not in (NO_EVICTION, UNKNOWN)


class ServerInfoReader:
    """Reads the servers once, as soon as they are available, and logs what an operator must know.

    Attributes:
        servers: What the servers have reported; empty before.

    Args:
        client: Opens a connection to each server.
    """

    def __init__(self, client: RedisClient) -> None:
        self.client = client
        self.servers: list[ServerInfo] = []

    @property
    def details(self) -> dict[str, str]:
        """The eviction policy, several ones of a cluster with commas; empty before it has been read."""
        policies = {info.maxmemory_policy for info in self.servers}
        return {"maxmemory_policy": ", ".join(sorted(policies))} if policies else {}

    async def run(self, available: asyncio.Event) -> None:
        """Read all servers once they are available; retry until it has succeeded."""
        await available.wait()
        while True:
            try:
                self.servers = await read_servers(self.client)
                break
            except CONNECTION_ERRORS:
                await asyncio.sleep(RETRY_SECONDS)
        log_policies(self.servers)
        log_unknown_replication(self.servers)


def log_policies(servers: Sequence[ServerInfo]) -> None:
    """Log each eviction policy once; one that evicts is a warning."""
    # NOTE: CONFIG would tell the same, but managed services forbid it.
    for policy in sorted({info.maxmemory_policy for info in servers if info.evicts}):
        logger.warning(
            "Redis: maxmemory-policy is %s: an eviction loses data of a room; set it to noeviction",
            policy,
        )
    for policy in sorted({info.maxmemory_policy for info in servers if not info.evicts}):
        logger.info("Redis: maxmemory-policy is %s", policy)


def log_unknown_replication(servers: Sequence[ServerInfo]) -> None:
    """Log a warning if the script cannot know that a server has taken the place of another one."""
    if not all(info.replication_id for info in servers):
        logger.warning(
            "Redis: INFO has no master_replid, or the user has not the right +info: after a failover or a restart of"
            " Redis that loses its last changes, messages may be lost without recovered: false"
        )


async def read_servers(client: RedisClient) -> list[ServerInfo]:
    """Read INFO of a client's server, or of each primary of its cluster.

    Raises:
        redis.exceptions.RedisError: A server is unavailable; also OSError and TimeoutError.
    """
    found = []
    for server in client.servers():
        async with asyncio.timeout(client.answer_seconds):
            connection = await client.open_pubsub_connection(server)
            try:
                found.append(await read_info(server, connection))
            finally:
                await connection.disconnect(nowait=True)
    return found


async def read_info(server: str, connection: AbstractConnection) -> ServerInfo:
    """Read INFO on a connection without pending replies; without the right to it, all fields are unknown.

    Raises:
        redis.exceptions.ConnectionError: The connection is lost.
    """
    replies = []
    # NOTE: one call per section, because older releases than 7.0 accept one only.
    for section in ("server", "memory", "replication"):
        try:
            replies.append(await call(connection, "INFO", section) or b"")
        except ResponseError:  # also NoPermissionError
            replies.append(b"")
    return parse_info(server, b"\r\n".join(replies))


def parse_info(server: str, reply: bytes) -> ServerInfo:
    """Parse the sections of INFO."""
    pairs = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    fields = {name: value for name, _, value in pairs if value}
    maxmemory = fields.get("maxmemory", "")
    return ServerInfo(
        server,
        fields.get("redis_version", ""),
        int(maxmemory) if maxmemory.isdecimal() else 0,
        fields.get("maxmemory_policy", UNKNOWN),
        fields.get("master_replid", ""),
    )


async def call(connection: AbstractConnection, *command: str | bytes | int) -> Any:
    """Execute a command on a connection without pending replies, and return the reply.

    Raises:
        redis.exceptions.RedisError: The reply is an error, or the connection is lost.
    """
    await connection.send_command(*command)
    return await connection.read_response()

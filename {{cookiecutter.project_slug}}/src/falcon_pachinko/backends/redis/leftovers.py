"""Keys in Redis or Valkey that no live node owns."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from redis.asyncio.connection import AbstractConnection

from . import operations
from .client import RedisClient
from .operations import Operation, T
from .script import NODES, ONCE, TICKETS, USERS, hash_tag
from .server_info import call

# The bounds of a scan, over all servers of a cluster.
SCAN_SECONDS = 1.0
MAX_KEYS = 100_000
KEYS_PER_STEP = 1_000

# The number of keys whose time to live is read.
MAX_CHECKED_KEYS = 1_000


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The result of a scan.

    Attributes:
        keys: The number of keys with the prefix.
        unowned: The number of those that no live node owns.
        permanent: Of these, some keys without a time to live.
        complete: Whether the scan has seen all keys.
    """

    keys: int
    unowned: int
    permanent: list[str]
    complete: bool


async def read_ownership(client: RedisClient) -> tuple[set[str], Callable[[str], bool]]:
    """Return the live nodes, and a function from a key without its prefix to whether one of them owns it.

    A room's keys, which begin with its hash tag, belong to the nodes that have members in it. Of the keys of
    the nodes, ``r:<node>`` belongs to that node, and the others to all nodes together, like the counts of users,
    the tickets and the requests that are handled once. The layout of the keys is described in :mod:`.script`; this function is the only one here that
    knows it.

    Raises:
        redis.exceptions.RedisError: Redis is unavailable, or refuses the script; also OSError, TimeoutError.
    """
    live = await execute(client, operations.live_nodes())
    nodes = set(live)
    tags: set[str] = set()
    for node in nodes:
        cursor = ""
        while cursor != "0":
            cursor, rooms = await execute(client, operations.rooms_of(node, cursor or "0"))
            tags.update(hash_tag(room) for room in rooms)

    def is_owned(key: str) -> bool:
        tag, brace, rest = key.partition("}")
        if tag.startswith((USERS, TICKETS, ONCE)):
            return bool(nodes)
        if tag + brace != NODES:
            return tag + brace in tags
        kind, _, node = rest.removeprefix(":").partition(":")
        return node in nodes if kind == "r" else True

    return nodes, is_owned


async def execute(client: RedisClient, operation: Operation[T]) -> T:
    """Execute an operation on the nodes and return its value.

    Raises:
        redis.exceptions.RedisError: See :func:`read_ownership`.
    """
    [result] = await client.execute([operation.request])
    if isinstance(result, Exception):
        raise result
    return operation.decode(result)


async def find_leftovers(
    client: RedisClient, connections: Mapping[str, AbstractConnection]
) -> Leftovers:
    """Scan the keys of all servers, for ``SCAN_SECONDS`` and ``MAX_KEYS`` at most.

    Args:
        client: Reads which keys are owned.
        connections: A connection to each server, without pending replies.

    Raises:
        redis.exceptions.NoPermissionError: The user may not execute SCAN.
        redis.exceptions.RedisError: See :func:`read_ownership`.
    """
    pattern = re.sub(r"([*?\[\]\\^])", r"\\\1", client.prefix) + ":*"
    deadline = asyncio.get_running_loop().time() + SCAN_SECONDS
    _, is_owned = await read_ownership(client)
    complete, count, steps = True, 0, MAX_KEYS // KEYS_PER_STEP
    unowned: dict[str, AbstractConnection] = {}
    for connection in connections.values():
        cursor = b""
        while cursor != b"0":
            if steps <= 0 or asyncio.get_running_loop().time() > deadline:
                complete = False
                break
            steps -= 1
            arguments = (cursor or b"0", "MATCH", pattern, "COUNT", KEYS_PER_STEP)
            cursor, keys = await call(connection, "SCAN", *arguments)
            count += len(keys)
            for key in (name.decode("utf-8", "replace") for name in keys):
                if not is_owned(key[len(client.prefix) + 1 :]):
                    unowned[key] = connection
    if unowned:
        # NOTE: a user may have joined a room meanwhile.
        _, is_owned = await read_ownership(client)
        unowned = {k: c for k, c in unowned.items() if not is_owned(k[len(client.prefix) + 1 :])}
    permanent = [
        key
        for key, connection in list(unowned.items())[:MAX_CHECKED_KEYS]
        if await call(connection, "PTTL", key) == -1
    ]
    return Leftovers(count, len(unowned), permanent, complete)

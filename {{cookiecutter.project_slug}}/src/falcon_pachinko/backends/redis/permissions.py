"""The rights that a node needs in Redis or Valkey, tried with commands that change nothing."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ReadOnlyError, ResponseError

from .client import RedisClient
from .script import NODES
from .server_info import call

Command = tuple[str, ...]

# A key that the last commands could not delete, because a right is missing, lives this long.
KEY_MS = "10000"

# The commands of the script that read or write nothing of a key that does not exist.
ON_A_MISSING_KEY: dict[str, Command] = {
    "DEL": (),
    "EXISTS": (),
    "GET": (),
    "HDEL": ("field",),
    "HEXISTS": ("field",),
    "HGET": ("field",),
    "HGETALL": (),
    "HKEYS": (),
    "HLEN": (),
    "HMGET": ("field",),
    "HSCAN": ("0",),
    "PEXPIRE": (KEY_MS,),
    "PTTL": (),
    "SCARD": (),
    "SET": ("value", "XX"),
    "SISMEMBER": ("member",),
    "SREM": ("member",),
    "SSCAN": ("0",),
    "TYPE": (),
    "UNLINK": (),
    "XADD": ("NOMKSTREAM", "*", "field", "value"),
    "XDEL": ("0-1",),
    "XRANGE": ("-", "+"),
    "XREVRANGE": ("+", "-"),
    "XTRIM": ("MAXLEN", "0"),
    "ZADD": ("XX", "0", "member"),
    "ZCARD": (),
    "ZCOUNT": ("-inf", "+inf"),
    "ZRANGE": ("0", "0"),
    "ZRANGEBYLEX": ("-", "+"),
    "ZRANGEBYSCORE": ("-inf", "+inf"),
    "ZREM": ("member",),
    "ZREVRANGE": ("0", "0"),
    "ZSCORE": ("member",),
}

# Those that create a key; it is deleted at once.
CREATING: dict[str, Command] = {
    "HINCRBY": ("field", "1"),
    "HSET": ("field", "value"),
    "HSETNX": ("field", "value"),
    "INCRBY": ("0",),
    "SADD": ("member",),
}

# Those without a key; pub/sub has other commands in a cluster.
WITHOUT_KEY: dict[str, Command] = {
    "PING": (),
    "TIME": (),
    "INFO": ("replication",),
    "EVALSHA": ("0" * 40, "0"),
    "EVAL": ("return 1", "0"),
}


def harmless_commands(client: RedisClient) -> Iterator[Command]:
    """Yield a command for each right of a node, the ones for pub/sub last."""
    # NOTE: the tag of the nodes, so that all keys that a program meets have a known form.
    tag = f"{NODES}:doctor:{secrets.token_hex(8)}"
    key, channel = f"{client.prefix}:{tag}", client.channel(tag)
    for name, arguments in WITHOUT_KEY.items():
        yield (name, *arguments)
    for name, arguments in ON_A_MISSING_KEY.items():
        yield (name, key, *arguments)
    for name, arguments in CREATING.items():
        yield (name, key, *arguments)
        yield ("PEXPIRE", key, KEY_MS)
        yield ("DEL", key)
    yield ("PUBSUB", "SHARDNUMSUB" if client.sharded else "NUMSUB", channel)
    yield ("SPUBLISH" if client.sharded else "PUBLISH", channel, "")
    yield (client.subscribe_command, channel)
    yield (client.unsubscribe_command, channel)


async def find_missing_rights(client: RedisClient, connection: AbstractConnection) -> list[str]:
    """Return the rights that the user of a connection lacks, in the syntax of ACL rules, such as ``+hset``.

    Each command is executed, in place of ``ACL DRYRUN``: that needs rights that no node needs, and does not
    see a command that was renamed or disabled. In a cluster a server checks the rights before it redirects.

    Raises:
        redis.exceptions.ReadOnlyError: The server is a replica.
        redis.exceptions.ConnectionError: The connection is lost.
    """
    missing: dict[str, None] = {}
    for command in harmless_commands(client):
        try:
            await call(connection, *command)
        except ReadOnlyError:
            raise
        except ResponseError as error:
            right = missing_right(client.prefix, command[0], str(error))
            if right:
                missing[right] = None
    return list(missing)


def missing_right(prefix: str, command: str, error: str) -> str:
    """Return the right that is missing according to an error; empty for any other error."""
    if re.search(r"no permissions? to access .*\bkeys?\b", error, re.IGNORECASE):
        return f"~{prefix}:*"
    if re.search(r"no permissions? to access .*\bchannels?\b", error, re.IGNORECASE):
        return f"&{prefix}:*"
    if re.search(r"no permissions?\b|unknown command", error, re.IGNORECASE):
        return f"+{command.lower()}"
    return ""

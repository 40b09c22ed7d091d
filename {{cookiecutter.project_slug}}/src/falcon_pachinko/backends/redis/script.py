"""The Lua script that runs in Redis or Valkey: a batch of operations per call, each one atomic.

A call passes operations in msgpack and a deadline. The script returns one result per operation and the
server's time, so that all operations of a loop iteration share one round trip. After the deadline it does
nothing and returns the time alone. A room has three keys with the room as hash tag, so that they and its
channel are in one slot of a cluster:

- ``<prefix>:{<room>}:m``, a hash: ``e`` the epoch, ``o`` the offset, ``n``, ``a`` and ``r`` the messages,
  milliseconds and bytes of the history, ``f:<name>`` the fencing token of each worker that has published here;
  ``b`` the bytes published in the epoch, ``c`` those of them before the oldest message when the stream was last
  measured, ``q`` the number of bytes at which it is measured again, ``x`` the time at which its life is extended
  again;
- ``<prefix>:{<room>}:s``, a stream: the id is ``<offset>-1``, ``t`` the time, ``d`` the publication, ``b`` the
  bytes published up to and with it;
- ``<prefix>:{<room>}:p``, a hash: one presence entry per user (field ``u<user>``) or per connection without a user
  (``c<connection>``), with the node of each connection (``c``), the time of joining in microseconds (``s``), the
  leave message (``l``) and, during the grace period, its end (``g``) and the node that ends it (``n``).

The keys of the nodes are ``<prefix>:{%nodes}:n``, a sorted set of nodes by the time at which each expires,
``<prefix>:{%nodes}:r:<node>``, the rooms where a node has members, ``<prefix>:{%nodes}:x:<node>`` while a node
is being evicted, and ``<prefix>:{%nodes}:b``, the time of the last heartbeat of any node. Leases are
``<prefix>:{%nodes}:l:<name>``; the hash ``<prefix>:{%nodes}:f`` holds their last tokens, the hash
``<prefix>:{%nodes}:s:<name>`` the schedules of their holders: for each name ``<last tick> <interval>``. Unless Redis
is a cluster, the sorted sets ``<prefix>:{%nodes}:h`` and ``<prefix>:{%nodes}:hx`` have the rooms by the bytes of
their streams and by the time at which these expire, and ``<prefix>:{%nodes}:hb`` is the sum of the bytes.

All times are the server's, in milliseconds: the clocks of the nodes need not agree.

An operation takes at most ten arguments, whose keys share one hash tag. A Lua file may use the local
functions of earlier ones; the last one returns the results.

NOTE: during a rolling update, nodes of both versions share these keys and formats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

ENCODE = msgspec.msgpack.Encoder().encode

# NOTE: not the tag of any room, because hash_tag escapes %.
NODES = "{%nodes}"

# The minimum that a room's stream keeps, with or without a history, so that a node can resume after an outage.
MIN_STREAM_MESSAGES = 256
MIN_STREAM_MS = 60_000

# The maximum size of the messages in the stream of a room without a history.
MAX_STREAM_BYTES = 1024 * 1024

# The default bound of all histories in a Redis or Valkey server.
DEFAULT_REDIS_BYTES = 128 * 1024 * 1024

# What a message and a stream take in Redis besides the encoded messages (measured: 59 bytes, and 4.6 KiB because the
# last block of a stream is allocated in advance; for messages of about 1 KiB the allocator takes up to 20 % more).
ENTRY_OVERHEAD_BYTES = 64
STREAM_OVERHEAD_BYTES = 5 * 1024

# The maximum number of rooms that one operation shortens, or forgets.
MAX_TRIMMED_ROOMS = 16
MAX_EXPIRED_ROOMS = 500

# Lua's unpack accepts a few thousand values.
ROOMS_PER_OPERATION = 500

# Redis deletes the keys of a room this long after the last refresh by a node that has subscribed to it.
ROOM_TTL_MS = 300_000


def raw(data: bytes | None) -> msgspec.Raw | None:
    """Encode bytes as a msgpack str, which need not be UTF-8: Lua's msgpack does not know bin."""
    if data is None:
        return None
    return msgspec.Raw(b"\xdb" + len(data).to_bytes(4, "big") + data)


def hash_tag(room: str) -> str:
    """Return the hash tag of a room; % and braces are escaped, as a tag ends at the first brace."""
    return "{" + room.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") + "}"


def room_of(tag: str) -> str:
    """Return the room of a hash tag."""
    return tag[1:-1].replace("%7D", "}").replace("%7B", "{").replace("%25", "%")


async def rooms_with_prefix(call: Callable[..., Awaitable[Any]], prefix: str) -> list[str]:
    """Return the sorted names of all live nodes' rooms that start with a prefix.

    Args:
        call: Executes an operation.
        prefix: The start of the names.
    """
    nodes: list[bytes] = await call("live_nodes", NODES)
    found: set[str] = set()
    for node in nodes:
        found.update(name.decode() for name in await call("rooms_of", NODES, node.decode()))
    return sorted(name for name in found if name.startswith(prefix))


def chunks(rooms: Sequence[str]) -> Iterator[list[str]]:
    """Split rooms into lists that one operation can take."""
    for start in range(0, len(rooms), ROOMS_PER_OPERATION):
        yield list(rooms[start : start + ROOMS_PER_OPERATION])


# Redis deletes a schedule after this number of intervals without a tick, but not before ROOM_TTL_MS.
SCHEDULE_INTERVALS = 3

CONSTANTS = {
    "MIN_STREAM_MESSAGES": MIN_STREAM_MESSAGES,
    "MIN_STREAM_MS": MIN_STREAM_MS,
    "MAX_STREAM_BYTES": MAX_STREAM_BYTES,
    "ENTRY_OVERHEAD_BYTES": ENTRY_OVERHEAD_BYTES,
    "STREAM_OVERHEAD_BYTES": STREAM_OVERHEAD_BYTES,
    "MAX_TRIMMED_ROOMS": MAX_TRIMMED_ROOMS,
    "MAX_EXPIRED_ROOMS": MAX_EXPIRED_ROOMS,
    "ROOM_TTL_MS": ROOM_TTL_MS,
    "SCHEDULE_INTERVALS": SCHEDULE_INTERVALS,
}
FILES = ("start", "history", "publish", "rooms", "presence", "nodes", "leases")
LUA = f"local {', '.join(CONSTANTS)} = {', '.join(map(str, CONSTANTS.values()))}\n" + "\n".join(
    Path(__file__).with_name("lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")
    for name in FILES
)
SHA = hashlib.sha1(LUA.encode(), usedforsecurity=False).hexdigest()

"""What the engine does for the nodes, in Lua: many operations in one call, each as a whole.

The script is given operations as msgpack and the time until which somebody waits for them. It answers with one
result for each and the time, so that all that comes together in a turn of the event loop shares one round trip;
after that time it does nothing, and answers with the time alone. A room has three keys with the room as hash
tag, so that they and its channel are in one slot of a cluster:

- ``<prefix>:{<room>}:m``, a hash: ``e`` epoch, ``o`` offset, ``n`` and ``a`` the history's messages and
  milliseconds, and a fencing token ``f:<name>`` for each worker that has spoken here;
- ``<prefix>:{<room>}:s``, a stream: the id is ``<offset>-1``, ``t`` when it was said, ``d`` the entry;
- ``<prefix>:{<room>}:p``, a hash: who is there, and for each the connections with their nodes (``c``), when
  the user came (``s``, in microseconds), what the room is told when the user has gone (``l``), and, while nobody is left,
  when that is to be (``g``) by which node (``n``).

The nodes have ``<prefix>:{%nodes}:n``, a sorted set by the time at which each expires,
``<prefix>:{%nodes}:r:<node>``, the rooms where a node has somebody, ``<prefix>:{%nodes}:x:<node>`` while one is
being buried, and ``<prefix>:{%nodes}:b``, when any of them was last heard. Leases are ``<prefix>:{%nodes}:l:<name>``; the tokens count in the hash
``<prefix>:{%nodes}:f``.

Times are the engine's, in milliseconds: the clocks of the nodes need not agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

ENCODE = msgspec.msgpack.Encoder().encode

# NOTE: no room has this tag, because a room's own % is escaped.
NODES = "{%nodes}"

# A node whose link was cut can fetch so much of each room, whether or not clients are given a history.
CATCH_UP_MESSAGES = 256
CATCH_UP_MS = 60_000

# What a room keeps in the engine goes so long after the last node that has it open has said so.
ROOM_TTL_MS = 300_000


def raw(data: bytes | None) -> msgspec.Raw | None:
    """Bytes as Lua's msgpack reads them: it knows no bin, so they go as a str, which need not be UTF-8."""
    if data is None:
        return None
    return msgspec.Raw(b"\xdb" + len(data).to_bytes(4, "big") + data)


def tag_of(room: str) -> str:
    """The room as hash tag: one in braces is read up to the first closing one, and must not be empty."""
    return "{" + room.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") + "}"


def room_of(tag: str) -> str:
    """The room of a hash tag."""
    return tag[1:-1].replace("%7D", "}").replace("%7B", "{").replace("%25", "%")


async def rooms_with_prefix(call: Callable[..., Awaitable[Any]], prefix: str) -> list[str]:
    """The rooms of all living nodes that begin so, sorted.

    Args:
        call: Lets the engine do an operation.
        prefix: What they begin with.
    """
    nodes: list[bytes] = await call("living", NODES)
    found: set[str] = set()
    for node in nodes:
        found.update(name.decode() for name in await call("rooms_of", NODES, node.decode()))
    return sorted(name for name in found if name.startswith(prefix))


LUA = (
    "local CATCH_UP_MESSAGES, CATCH_UP_MS, ROOM_TTL_MS ="
    f" {CATCH_UP_MESSAGES}, {CATCH_UP_MS}, {ROOM_TTL_MS}\n"
) + Path(__file__).with_name("script.lua").read_text(encoding="utf-8")
SHA = hashlib.sha1(LUA.encode(), usedforsecurity=False).hexdigest()

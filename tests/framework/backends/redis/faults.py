"""Faults of a Redis or Valkey server: keys that are lost or of a wrong type."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from falcon_pachinko.backends.redis.client import RedisClient, Request

from ...support.backends import Nodes
from ...support.redis_servers import PROGRAMS, RedisServer

each_server = pytest.mark.parametrize("redis_server", PROGRAMS, indirect=True)

PRESENCE_KEYS = ("p", "n", "o", "k")
LOSSES = [
    *(f"{{room}}:{key}" for key in ("m", "s", *PRESENCE_KEYS)),
    *(f"wrong type {{room}}:{key}" for key in ("m", "s", *PRESENCE_KEYS)),
    "{room}:*",
    "{%nodes}:n",
    "{%nodes}:r:*",
    "{%nodes}:*",
    "FLUSHALL",
]


def lose(server: RedisServer, nodes: Nodes, loss: str) -> None:
    """Delete the keys that match a pattern, or replace them by texts, or delete all keys."""
    if loss == "FLUSHALL":
        server.command("FLUSHALL")
        return
    pattern = loss.removeprefix("wrong type ")
    for key in server.keys(f"{nodes.prefix}:{pattern}"):
        server.command("DEL", key)
        if pattern != loss:
            server.command("SET", key, "a text")


def lose_reply(
    client: RedisClient,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    fault: Callable[[], Awaitable[object]],
) -> None:
    """Lose the reply of the next call with an operation: the call is executed, then the fault occurs."""
    execute = client.execute

    async def execute_without_reply(requests: Sequence[Request]) -> list[Any]:
        results = await execute(requests)
        if any(request[0] == operation for request in requests):
            monkeypatch.undo()
            await fault()
            raise ConnectionError("the reply is lost")
        return results

    monkeypatch.setattr(client, "execute", execute_without_reply)

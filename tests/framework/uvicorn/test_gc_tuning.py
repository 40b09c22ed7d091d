"""Garbage collection: ended connections are freed without it, full collections are rare."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import falcon.asgi
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from falcon_pachinko import WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.testing import serve
from falcon_pachinko.uvicorn import PushProtocol

WAIT_SECONDS = 15
VISITS = 5
OURS = ("falcon.", "falcon_pachinko.", "uvicorn.")

SPARED = """
import gc
from falcon_pachinko.uvicorn.gc_tuning import freeze_startup_objects
young, middle, _ = gc.get_threshold()
freeze_startup_objects()
assert gc.isenabled()
assert gc.get_threshold() == (young, middle, 1_000), gc.get_threshold()
assert gc.get_freeze_count() > 1_000, gc.get_freeze_count()
"""


class Room(WebSocketResource):
    """A room that refuses the client named unwelcome."""

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        await self.join_room("room", join_message=name)
        return name != "unwelcome"

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        await self.broadcast_to_room("room", "left")

    @handles_message("leave")
    async def leave(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.close(4001)


async def close(client: ClientConnection) -> None:
    await client.close()


async def vanish(client: ClientConnection) -> None:
    client.transport.abort()


async def ask_to_be_closed(client: ClientConnection) -> None:
    await client.send('{"type": "leave"}')


ENDS = {"close": close, "vanish": vanish, "closed": ask_to_be_closed}


@contextmanager
def no_collections() -> Iterator[list[object]]:
    """Disable the collector, and give the garbage that it finds at the end."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("end", [*ENDS, "unwelcome"])
async def test_ended_connection_is_freed_without_the_collector(end: str) -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/{name}", Room)
    manager = app.ws_connection_manager
    async with asyncio.timeout(WAIT_SECONDS), serve(app, ws=PushProtocol) as served:
        state = served.server.server_state

        async def visit() -> None:
            try:
                client = await connect(served.ws_url(f"/{end}"), proxy=None)
                await ENDS[end](client)
                await client.wait_closed()
            except InvalidStatus:
                assert end == "unwelcome"
            while state.tasks or state.connections or len(manager):  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0)

        await visit()
        with no_collections() as found:
            for _ in range(VISITS):
                await visit()
    left = Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in found)
    assert not {kind: number for kind, number in left.items() if kind.startswith(OURS)}


def test_full_collections_become_rare() -> None:
    subprocess.run([sys.executable, "-c", SPARED], check=True, timeout=WAIT_SECONDS)

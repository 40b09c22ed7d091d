"""A message whose sender is cut off at each step: the service is killed, and the message is sent again."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import {{ cookiecutter.package_name }}.resources.{{ cookiecutter.__resource_module }} as chat
from {{ cookiecutter.package_name }}.messages import ServerNewMessage
from {{ cookiecutter.package_name }}.store import MessageStore

from ..conftest import Client, token_of
from ..valkey import running_valkey

if TYPE_CHECKING:
    from ..conftest import Server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")

WAIT_SECONDS = 60.0
CLIENT_ID = "0123456789abcdef" * 2
STEPS = ("before the claim", "claimed", "stored", "published")

# The service, which is killed at a step of the message "cut".
KILLED = f"""
import os, runpy, signal, sys
from falcon_pachinko import WebSocketConnectionManager as Manager
from {ServerNewMessage.__module__} import ServerNewMessage
from {chat.__name__} import {chat.{{ cookiecutter.__resource_class }}.__name__} as Resource

step = sys.argv[1]
broadcast_to_room, init = Resource.broadcast_to_room, Manager.__init__

def reach(name):
    if name == step:
        os.kill(os.getpid(), signal.SIGKILL)

def make_manager(self, *args, **kwargs):
    init(self, *args, **kwargs)
    claim_request = self.backend.claim_request

    async def claim(*args, **kwargs):
        reach("before the claim")
        claimed = await claim_request(*args, **kwargs)
        reach("claimed")
        return claimed

    self.backend.claim_request = claim

async def broadcast(self, room, message, **options):
    is_cut = isinstance(message, ServerNewMessage) and message.text == "cut"
    if is_cut:
        reach("stored")
    position = await broadcast_to_room(self, room, message, **options)
    if is_cut:
        reach("published")
    return position

Manager.__init__, Resource.broadcast_to_room = make_manager, broadcast
sys.argv[1:] = []
runpy.run_module({chat.__name__.partition(".")[0]!r}, run_name="__main__")
"""


@contextlib.asynccontextmanager
async def visit(server: Server, room: str) -> AsyncIterator[Client]:
    """Connect the sender, whose id is the same on each connection."""
    async with server.connect(room, token_of("Alice"), query=f"?client={CLIENT_ID}") as client:
        await client.receive_until("serverPosition")
        yield client


async def send(client: Client) -> None:
    await client.send({"type": "clientSendMessage", "payload": {"text": "cut"}, "ref": "1"})


async def reply_of(client: Client) -> Any:
    """Receive until the reply to the message."""
    while (message := await client.receive()).get("ref") != "1":
        pass
    return message


async def texts_in(folder: Path, room: str) -> list[str]:
    """Return the stored texts of a room."""
    store = MessageStore(f"sqlite:///{folder}/var/messages.db")
    await store.open()
    try:
        return [each.text for each in await store.page(chat.ROOM_PREFIX + room)]
    finally:
        await store.aclose()


@pytest.mark.parametrize("step", STEPS)
async def test_a_message_takes_effect_once_if_its_process_is_killed(
    start: Callable[..., Server],
    serve: Callable[..., Server],
    tmp_path: Path,
    room: str,
    step: str,
) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        killed = start("-c", KILLED, step)
        killed.wait_serving()
        async with visit(killed, room) as alice:
            await send(alice)
            assert await killed.wait_ended() == -signal.SIGKILL
        async with visit(serve(), room) as alice:
            for _ in range(2):
                await send(alice)
                assert await reply_of(alice) == {"type": "serverAck", "payload": {}, "ref": "1"}
        assert await texts_in(tmp_path, room) == ["cut"]


@pytest.mark.redis
@pytest.mark.parametrize("step", STEPS)
async def test_a_message_takes_effect_once_if_its_node_is_killed(
    start: Callable[..., Server],
    serve: Callable[..., Server],
    tmp_path: Path,
    room: str,
    step: str,
) -> None:
    with running_valkey() as valkey:
        variables = {
            "APP_BACKEND_URL": valkey.url,
            "APP_PRESENCE_EXPIRY_SECONDS": "1.5",
            "APP_PRESENCE_GRACE_SECONDS": "0.5",
        }
        async with asyncio.timeout(WAIT_SECONDS):
            other = serve(**variables)
            killed = start("-c", KILLED, step, **variables)
            killed.wait_serving()
            async with other.join("Bob", room) as bob:
                async with visit(killed, room) as alice:
                    await send(alice)
                    assert await killed.wait_ended() == -signal.SIGKILL
                async with visit(other, room) as alice:
                    for _ in range(2):
                        await send(alice)
                        ack = {"type": "serverAck", "payload": {}, "ref": "1"}
                        assert await reply_of(alice) == ack
                    await alice.send("clientSendMessage", {"text": "end"})
                received = [await next_text(bob) for _ in range(2)]
            assert received == ["cut", "end"]
            assert await texts_in(tmp_path, room) == ["cut", "end"]


async def next_text(client: Client) -> str:
    """Receive until the next message of a user."""
    message: ServerNewMessage = (await client.receive_until(ServerNewMessage))[-1]
    return message.text

"""Clients that reconnect: no leave message within the grace period, and no lost messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from falcon_pachinko.messages import ServerPosition
from falcon_pachinko.testing import Client, Running
from falcon_pachinko.testing.fixtures import OpenClient, RunApp

from {{ cookiecutter.package_name }} import app
from {{ cookiecutter.package_name }}.__main__ import WEBSOCKET_OPTIONS
from {{ cookiecutter.package_name }}.messages import (
    SendMessage,
    ServerNewMessage,
    ServerUserJoined,
    ServerUserLeft,
)

if TYPE_CHECKING:
    from ..conftest import HeadersOf, Join, MakeSettings

Reconnect = Callable[..., Awaitable[Client]]


@pytest.fixture
def reconnect(
    chat: Running, open_client: OpenClient, websocket_path: str, room: str, headers_of: HeadersOf
) -> Reconnect:
    """Connect a user to the room with a query; nothing has been received yet."""

    async def reconnect(name: str, query: str = "") -> Client:
        path = f"{websocket_path}/{room}{query}"
        return await open_client(chat, path, headers=headers_of(name))

    return reconnect


async def test_a_second_tab_and_a_quick_reload_send_no_join_or_leave_message(join: Join) -> None:
    bob, alice = await join("Bob"), await join("Alice")
    await bob.receive(ServerUserJoined)
    tab = await join("Alice")
    alice.vanish()
    await tab.close()
    reloaded = await join("Alice")
    await reloaded.send("clientSendMessage", SendMessage(text="I am here"))
    assert await bob.receive_until(ServerNewMessage) == [
        ServerNewMessage(user="Alice", user_id="Alice", text="I am here")
    ]


async def test_a_reconnecting_client_gets_missed_messages(join: Join, reconnect: Reconnect) -> None:
    alice, bob = await join("Alice"), await join("Bob")
    await alice.receive(ServerUserJoined)
    await alice.send("clientSendMessage", SendMessage(text="received"))
    last = await bob.receive()
    bob.vanish()
    for text in ("one", "two"):
        await alice.send("clientSendMessage", SendMessage(text=text))
        await alice.receive_until(ServerNewMessage)
    reconnected = await reconnect("Bob", f"?since={last['id']}")
    missed = await reconnected.receive_until(ServerPosition)
    texts = [each["payload"] for each in missed[:-1] if each["type"] == "serverNewMessage"]
    assert [each["text"] for each in texts] == ["one", "two"]
    assert missed[-1].recovered is True


class TestWithoutGrace:
    """``APP_PRESENCE_GRACE_SECONDS=0``: a reconnecting user has left in the meantime."""

    @pytest.fixture
    async def chat(self, run_app: RunApp, make_settings: MakeSettings) -> Running:
        application = app.create_app(make_settings(presence_grace_seconds=0))
        return await run_app(application, **WEBSOCKET_OPTIONS)

    async def test_a_reconnecting_client_does_not_get_its_own_leave_message(
        self, join: Join, reconnect: Reconnect
    ) -> None:
        alice, bob = await join("Alice"), await join("Bob")
        await alice.receive(ServerUserJoined)
        await alice.send("clientSendMessage", SendMessage(text="received"))
        last = await bob.receive()
        bob.vanish()
        await alice.receive_until(ServerUserLeft)
        reconnected = await reconnect("Bob", f"?since={last['id']}")
        missed = await reconnected.receive_until(ServerPosition)
        assert missed[-1].recovered is True
        assert "serverUserLeft" not in {each["type"] for each in missed[:-1]}


class TestWithoutHistory:
    """``APP_HISTORY_MESSAGES=0``."""

    @pytest.fixture
    async def chat(self, run_app: RunApp, make_settings: MakeSettings) -> Running:
        application = app.create_app(make_settings(history_messages=0))
        return await run_app(application, **WEBSOCKET_OPTIONS)

    async def test_messages_have_no_position(self, reconnect: Reconnect) -> None:
        alice = await reconnect("Alice")
        await alice.send("clientSendMessage", SendMessage(text="not kept"))
        message = (await alice.receive_until("serverNewMessage"))[-1]
        assert "id" not in message

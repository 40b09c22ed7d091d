"""Who comes back in time: nobody hears of it, and nothing is missed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from falcon_pachinko.messages import ServerPosition
from falcon_pachinko.testing import Client, Running
from falcon_pachinko.testing.fixtures import OpenClient, RunApp

from {{ cookiecutter.package_name }} import app, auth
from {{ cookiecutter.package_name }}.__main__ import WEBSOCKET_OPTIONS
from {{ cookiecutter.package_name }}.messages import (
    SendMessage,
    ServerNewMessage,
    ServerUserJoined,
    ServerUserLeft,
)

if TYPE_CHECKING:
    from ..conftest import Join, MakeSettings


Come = Callable[..., Awaitable[Client]]


@pytest.fixture
def come(
    chat: Running, open_client: OpenClient, websocket_path: str, room: str, secret: str
) -> Come:
    """Connect to the room as somebody, with a query; nothing has been read yet."""

    async def come(name: str, query: str = "") -> Client:
        token = auth.issue_token(auth.User(name), secret, lifetime_seconds=60)
        cookies = {auth.COOKIE_NAME: token}
        return await open_client(chat, f"{websocket_path}/{room}{query}", cookies=cookies)

    return come


async def test_a_second_tab_and_a_reload_in_time_are_silent(join: Join) -> None:
    bob, alice = await join("Bob"), await join("Alice")
    await bob.receive(ServerUserJoined)
    tab = await join("Alice")
    alice.vanish()
    await tab.close()
    reloaded = await join("Alice")
    await reloaded.send("clientSendMessage", SendMessage(text="I am here"))
    assert await bob.receive_until(ServerNewMessage) == [
        ServerNewMessage(user="Alice", text="I am here")
    ]


async def test_who_comes_back_is_given_what_it_missed(join: Join, come: Come) -> None:
    alice, bob = await join("Alice"), await join("Bob")
    await alice.receive(ServerUserJoined)
    await alice.send("clientSendMessage", SendMessage(text="heard"))
    heard = await bob.receive()
    bob.vanish()
    for text in ("one", "two"):
        await alice.send("clientSendMessage", SendMessage(text=text))
        await alice.receive_until(ServerNewMessage)
    back = await come("Bob", f"?since={heard['id']}")
    missed = await back.receive_until(ServerPosition)
    said = [each["payload"] for each in missed[:-1] if each["type"] == "serverNewMessage"]
    assert said == [{"user": "Alice", "text": "one"}, {"user": "Alice", "text": "two"}]
    assert missed[-1].recovered is True


class TestWithoutGrace:
    """Who comes back later than that has gone meanwhile."""

    @pytest.fixture
    async def chat(self, run_app: RunApp, make_settings: MakeSettings) -> Running:
        application = app.create_app(make_settings(presence_grace_seconds=0))
        return await run_app(application, **WEBSOCKET_OPTIONS)

    async def test_who_comes_back_is_not_told_of_their_own_end(
        self, join: Join, come: Come
    ) -> None:
        alice, bob = await join("Alice"), await join("Bob")
        await alice.receive(ServerUserJoined)
        await alice.send("clientSendMessage", SendMessage(text="heard"))
        heard = await bob.receive()
        bob.vanish()
        await alice.receive_until(ServerUserLeft)
        back = await come("Bob", f"?since={heard['id']}")
        missed = await back.receive_until(ServerPosition)
        assert missed[-1].recovered is True
        assert "serverUserLeft" not in {each["type"] for each in missed[:-1]}


class TestWithoutHistory:
    """``APP_HISTORY_MESSAGES=0``."""

    @pytest.fixture
    async def chat(self, run_app: RunApp, make_settings: MakeSettings) -> Running:
        application = app.create_app(make_settings(history_messages=0))
        return await run_app(application, **WEBSOCKET_OPTIONS)

    async def test_messages_have_no_position(self, come: Come) -> None:
        alice = await come("Alice")
        await alice.send("clientSendMessage", SendMessage(text="not kept"))
        said = (await alice.receive_until("serverNewMessage"))[-1]
        assert "id" not in said

"""The chat inside the test process: no port, and messages are structs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from falcon_pachinko.testing import Refused, Running
from falcon_pachinko.testing.fixtures import OpenClient, RunApp

from {{ cookiecutter.package_name }} import app
from {{ cookiecutter.package_name }}.messages import (
    NOT_SIGNED_IN,
    SendMessage,
    ServerNewMessage,
    ServerSystemAnnouncement,
    ServerUserJoined,
    ServerUserLeft,
    ServerUserTyping,
)

if TYPE_CHECKING:
    from ..conftest import Join, MakeSettings

# 8,000 bytes: 150 of these exceed the outbox of a client.
LONG_TEXT = "😀" * 2000
SLOW_READER = 4008


@pytest.fixture
async def chat(run_app: RunApp, make_settings: MakeSettings) -> Running:
    """The service with a short grace period."""
    return await run_app(app.create_app(make_settings(presence_grace_seconds=0.05)))


async def test_other_clients_see_all_actions_of_a_user(join: Join) -> None:
    bob, alice = await join("Bob"), await join("Alice")
    assert await bob.receive(ServerUserJoined) == ServerUserJoined(user="Alice", user_id="Alice")
    await alice.send("clientStartTyping")
    typing = ServerUserTyping(user="Alice", user_id="Alice", is_typing=True)
    assert await bob.receive(ServerUserTyping) == typing
    await alice.send("clientSendMessage", SendMessage(text="Hello!"))
    for client in (alice, bob):
        assert await client.receive(ServerNewMessage) == ServerNewMessage(
            user="Alice", user_id="Alice", text="Hello!"
        )
    alice.vanish()
    *others, last = await bob.receive_until(ServerUserLeft)
    assert last == ServerUserLeft(user="Alice", user_id="Alice")
    assert [message["payload"] for message in others] == [
        {"user": "Alice", "userId": "Alice", "isTyping": False}
    ]


async def test_a_slow_reader_is_closed_and_other_clients_continue(join: Join) -> None:
    alice, bob = await join("Alice"), await join("Bob")
    await alice.receive(ServerUserJoined)
    bob.pause_reading()
    left = {"type": "serverUserLeft", "payload": {"user": "Bob", "userId": "Bob"}}
    for _ in range(150):
        await alice.send("clientSendMessage", SendMessage(text=LONG_TEXT))
        received = await alice.receive_until("serverNewMessage")
        if any(without_position(message) == left for message in received):
            break
    else:
        assert without_position((await alice.receive_until("serverUserLeft"))[-1]) == left
    bob.resume_reading()
    assert (await bob.wait_closed())[0] == SLOW_READER


def without_position(message: dict[str, object]) -> dict[str, object]:
    """Return a message without its position and its time."""
    return {name: value for name, value in message.items() if name not in {"id", "at"}}


async def test_a_client_without_a_token_is_closed_with_the_reason(
    chat: Running, open_client: OpenClient, websocket_path: str, room: str
) -> None:
    stranger = await open_client(chat, f"{websocket_path}/{room}")
    assert await stranger.wait_closed() == (NOT_SIGNED_IN, "sign in first")


async def test_a_page_of_another_origin_is_refused(chat: Running, join: Join) -> None:
    await join("Alice", origin=chat.origin)
    with pytest.raises(Refused) as refused:
        await join("Alice", origin="https://evil.example")
    assert refused.value.status_code == 403


class TestAnnouncement:
    @pytest.fixture
    async def chat(self, run_app: RunApp, make_settings: MakeSettings) -> Running:
        """The service with an announcement every 10 ms."""
        settings = make_settings(announcement_interval_seconds=0.01, announcement_text="Soon")
        return await run_app(app.create_app(settings))

    async def test_the_worker_runs_with_the_application(self, join: Join) -> None:
        alice = await join("Alice")
        for _ in range(2):
            assert await alice.receive(ServerSystemAnnouncement) == ServerSystemAnnouncement(
                text="Soon"
            )

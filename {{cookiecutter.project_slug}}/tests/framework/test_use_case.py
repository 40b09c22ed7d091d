"""The use case's program runs exactly as its document shows it."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from falcon_pachinko.testing import Client, Served, connect, serve


@pytest.fixture
def program() -> Any:
    """The program, executed again: its application and its manager are globals of the module."""
    return importlib.reload(importlib.import_module(".use_case_program", __package__))


@pytest.fixture
async def served(program: Any) -> AsyncIterator[Served]:
    async with serve(program.app) as served:
        yield served


@pytest.fixture
async def alice(served: Served) -> AsyncIterator[Client]:
    async with connect(served.ws_url("/ws/chat/general?user=Alice")) as client:
        welcome = {"text": "Welcome Alice to room 'general'!"}
        assert await client.receive() == {"type": "serverSystemMessage", "payload": welcome}
        yield client


@pytest.fixture
async def bob(served: Served, alice: Client) -> AsyncIterator[Client]:
    async with connect(served.ws_url("/ws/chat/general?user=Bob")) as client:
        assert (await client.receive())["payload"]["text"] == "Welcome Bob to room 'general'!"
        assert await alice.receive() == {"type": "serverUserJoined", "payload": {"user": "Bob"}}
        yield client


async def test_message_reaches_all_members_of_the_room(alice: Client, bob: Client) -> None:
    await bob.send("clientSendMessage", {"text": "Hello everyone!"})
    message = {"type": "serverNewMessage", "payload": {"user": "Bob", "text": "Hello everyone!"}}
    assert await alice.receive() == message
    assert await bob.receive() == message


async def test_typing_state_reaches_only_other_members(alice: Client, bob: Client) -> None:
    await bob.send("clientStartTyping")
    await bob.send("clientStopTyping")
    await bob.send("clientSendMessage", {"text": "done"})
    assert [await alice.receive() for _ in range(3)] == [
        {"type": "serverUserTyping", "payload": {"user": "Bob", "isTyping": True}},
        {"type": "serverUserTyping", "payload": {"user": "Bob", "isTyping": False}},
        {"type": "serverNewMessage", "payload": {"user": "Bob", "text": "done"}},
    ]
    assert (await bob.receive())["type"] == "serverNewMessage"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param('{"type": "unknown", "payload": {}}', id="unknown type"),
        pytest.param('{"type": "disconnect"}', id="a method's name"),
        pytest.param('{"payload": {"text": "x"}}', id="no type"),
        pytest.param("this is not JSON", id="not JSON"),
        pytest.param("", id="empty"),
        pytest.param(b"\x00\xff", id="binary"),
    ],
)
async def test_unknown_message_is_answered_and_the_connection_stays_open(
    alice: Client, message: str | bytes
) -> None:
    await alice.send_raw(message)
    error = {"error": "Unrecognized message format or type."}
    assert await alice.receive() == {"type": "serverError", "payload": error}
    await alice.send("clientSendMessage", {"text": "still here"})
    assert (await alice.receive())["payload"]["text"] == "still here"


async def test_connection_without_a_user_is_refused(served: Served, alice: Client) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(served.ws_url("/ws/chat/general")):
            pass
    assert refused.value.response.status_code == 403
    await alice.send("clientSendMessage", {"text": "marker"})
    assert (await alice.receive())["type"] == "serverNewMessage"


async def test_other_members_are_notified_when_a_user_leaves(
    alice: Client, bob: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    await bob.close(1001)
    assert await alice.receive() == {"type": "serverUserLeft", "payload": {"user": "Bob"}}
    await alice.send("clientSendMessage", {"text": "marker"})
    await alice.receive()
    assert capsys.readouterr().out == "User Bob disconnected from room general with code 1001\n"


async def test_worker_announces_to_rooms_with_its_prefix(program: Any) -> None:
    program.ANNOUNCEMENT_INTERVAL = 0.05
    async with (
        serve(program.app) as served,
        connect(served.ws_url("/ws/chat/chat_general?user=Alice")) as alice,
        connect(served.ws_url("/ws/chat/general?user=Bob")) as bob,
    ):
        announcement = (await alice.receive_until("serverSystemAnnouncement"))[-1]
        text = "System maintenance is scheduled for 2 AM UTC."
        assert announcement["payload"] == {"text": text}
        assert (await bob.receive())["type"] == "serverSystemMessage"
        await bob.send("clientSendMessage", {"text": "marker"})
        assert (await bob.receive())["type"] == "serverNewMessage"


async def test_worker_stops_with_the_application(program: Any) -> None:
    async with serve(program.app):
        pass
    assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("worker")]
    assert program.controller.tasks == set()

"""Changes of stored messages inside the test process: edits, deletions, reactions, replies, and what was read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from falcon_pachinko import App
from falcon_pachinko.messages import ServerPosition
from falcon_pachinko.testing import Client, Running
from falcon_pachinko.testing.fixtures import OpenClient, RunApp

from {{ cookiecutter.package_name }} import (
    app,
    room_list,
)
from {{ cookiecutter.package_name }} import messages as wire
from {{ cookiecutter.package_name }}.message_fields import Quoted, Reaction

if TYPE_CHECKING:
    from ..conftest import HeadersOf, Join, MakeSettings

pytestmark = pytest.mark.slow

UNKNOWN_ID = "0" * 28


@pytest.fixture
def application(make_settings: MakeSettings, tmp_path: Path) -> App:
    """The service with a store."""
    return app.create_app(make_settings(database_url=f"sqlite:///{tmp_path}/messages.db"))


@pytest.fixture
async def chat(run_app: RunApp, application: App) -> Running:
    """The service inside the test process, without a port."""
    return await run_app(application)


@pytest.fixture
async def pair(join: Join) -> tuple[Client, Client]:
    """Two users in the room."""
    alice = await join("Alice")
    bob = await join("Bob")
    await alice.receive_until(wire.ServerUserJoined)
    return alice, bob


async def say(client: Client, text: str, *others: Client) -> str:
    """Send a text, and return the id of the message."""
    await client.send("clientSendMessage", wire.SendMessage(text=text))
    [*_, sent] = await client.receive_until(wire.ServerNewMessage)
    for each in others:
        assert (await each.receive_until(wire.ServerNewMessage))[-1] == sent
    assert sent.text == text
    return str(sent.message_id)


async def request(client: Client, message_type: str, payload: object) -> Any:
    """Send a request, and return its reply."""
    await client.send({"type": message_type, "payload": payload, "ref": "r"})
    while "ref" not in (message := await client.receive()):
        pass
    return message


async def acknowledged(client: Client, message_type: str, payload: object) -> None:
    """Send a request that is acknowledged."""
    assert (await request(client, message_type, payload))["type"] == "serverAck"


async def code_of(client: Client, message_type: str, payload: object) -> str:
    """Return the code of the error with which a request is refused."""
    reply = await request(client, message_type, payload)
    assert reply["type"] == "serverError"
    code: str = reply["payload"]["code"]
    return code


async def past_of(client: Client) -> wire.ServerHistory:
    """Return the last page of the past."""
    reply = await request(client, "clientLoadHistory", {})
    return msgspec.convert(reply["payload"], wire.ServerHistory, strict=True)


async def test_an_edited_message_is_changed_for_all_and_in_the_past(
    pair: tuple[Client, Client],
) -> None:
    alice, bob = pair
    message_id = await say(alice, "Helo", bob)
    await alice.send("clientEditMessage", wire.EditMessage(message_id, "Hello"))
    for client in pair:
        assert await client.receive(wire.ServerMessageEdited) == wire.ServerMessageEdited(
            message_id=message_id, text="Hello", revision=1
        )
    [past] = (await past_of(bob)).messages
    assert (past.text, past.edited, past.revision) == ("Hello", True, 1)


async def test_only_own_messages_that_exist_are_edited(pair: tuple[Client, Client]) -> None:
    alice, bob = pair
    message_id = await say(alice, "mine", bob)
    for each in (message_id, UNKNOWN_ID):
        payload = wire.EditMessage(each, "changed")
        assert await code_of(bob, "clientEditMessage", payload) == "notFound"
    for invalid in ("", "no id", message_id.upper() + "0"):
        payload = wire.EditMessage(invalid, "changed")
        assert await code_of(bob, "clientEditMessage", payload) == "invalidPayload"
    await acknowledged(alice, "clientDeleteMessage", wire.DeleteMessage(message_id))
    payload = wire.EditMessage(message_id, "again")
    assert await code_of(alice, "clientEditMessage", payload) == "notFound"


async def test_a_deleted_message_is_gone_everywhere(
    pair: tuple[Client, Client],
    application: App,
    chat: Running,
    open_client: OpenClient,
    headers_of: HeadersOf,
    websocket_path: str,
    room: str,
) -> None:
    alice, bob = pair
    await say(alice, "before", bob)
    secret_id = await say(alice, "secret", bob)
    await acknowledged(alice, "clientEditMessage", wire.EditMessage(secret_id, "still secret"))
    since = (await bob.receive_until("serverMessageEdited"))[-1]["id"].rpartition(":")[0] + ":1"
    await acknowledged(alice, "clientDeleteMessage", wire.DeleteMessage(secret_id))
    deleted = await bob.receive(wire.ServerMessageDeleted)
    assert deleted == wire.ServerMessageDeleted(message_id=secret_id, revision=2)
    assert [each.text for each in (await past_of(bob)).messages] == ["before"]
    kept = await application.ws_connection_manager.history(app.ROOM_PREFIX + room)
    assert not [each for each in kept if b"secret" in each.data]
    path = f"{websocket_path}/{room}?since={since}"
    carol = await open_client(chat, path, headers=headers_of("Carol"))
    missed = await carol.receive_until(ServerPosition)
    assert missed[-1].recovered is True
    assert "serverMessageDeleted" in {each["type"] for each in missed[:-1]}
    assert "secret" not in repr(missed)


async def test_a_deletion_that_was_not_announced_can_be_repeated(
    pair: tuple[Client, Client],
) -> None:
    alice, bob = pair
    message_id = await say(alice, "secret", bob)
    for _ in range(2):
        await acknowledged(alice, "clientDeleteMessage", wire.DeleteMessage(message_id))
        deleted = await bob.receive(wire.ServerMessageDeleted)
        assert (deleted.message_id, deleted.revision) == (message_id, 1)
    payload = wire.DeleteMessage(message_id)
    assert await code_of(bob, "clientDeleteMessage", payload) == "notFound"


async def test_a_moderator_deletes_the_messages_of_others(
    pair: tuple[Client, Client],
    chat: Running,
    open_client: OpenClient,
    headers_of: HeadersOf,
    websocket_path: str,
    room: str,
) -> None:
    alice, bob = pair
    message_id = await say(alice, "rude", bob)
    payload = wire.DeleteMessage(message_id)
    assert await code_of(bob, "clientDeleteMessage", payload) == "notFound"
    headers = headers_of("Mia", "staff")
    mia = await open_client(chat, f"{websocket_path}/{room}", headers=headers)
    await mia.receive_until(ServerPosition)
    await acknowledged(mia, "clientDeleteMessage", payload)
    await bob.receive_until(wire.ServerMessageDeleted)
    assert (await past_of(bob)).messages == []


async def test_reactions_reach_all_and_are_in_the_past(pair: tuple[Client, Client]) -> None:
    alice, bob = pair
    message_id = await say(alice, "Hello", bob)
    revisions = []
    for client, on, count in ((bob, True, 1), (alice, True, 2), (bob, False, 1)):
        await client.send("clientReact", wire.React(message_id, "👍", on))
        for each in pair:
            reaction = await each.receive(wire.ServerReaction)
            assert (reaction.message_id, reaction.reaction) == (message_id, "👍")
            assert (reaction.on, reaction.count) == (on, count)
            assert reaction.user_id == ("Alice" if client is alice else "Bob")
            revisions.append(reaction.revision)
    assert revisions == [1, 1, 2, 2, 3, 3]
    for client, mine in ((alice, True), (bob, False)):
        [past] = (await past_of(client)).messages
        assert (past.reactions, past.revision) == ([Reaction("👍", 1, mine)], 3)


async def test_a_reaction_that_changes_nothing_is_not_sent(pair: tuple[Client, Client]) -> None:
    alice, bob = pair
    message_id = await say(alice, "Hello", bob)
    await acknowledged(bob, "clientReact", wire.React(message_id, "👍", on=False))
    await acknowledged(bob, "clientReact", wire.React(message_id, "👍", on=True))
    await acknowledged(bob, "clientReact", wire.React(message_id, "👍", on=True))
    await bob.send("clientSendMessage", wire.SendMessage(text="end"))
    received = await alice.receive_until(wire.ServerNewMessage)
    assert [each["type"] for each in received[:-1]] == ["serverReaction"]


@pytest.mark.parametrize("reaction", ["👍", "❤️", "👩🏽‍🚀", "🇫🇷", "1️⃣", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "↔️", "©"])
async def test_an_emoji_is_a_reaction(pair: tuple[Client, Client], reaction: str) -> None:
    message_id = await say(pair[0], "Hello")
    await acknowledged(pair[0], "clientReact", wire.React(message_id, reaction, on=True))


@pytest.mark.parametrize(
    "reaction",
    ["a", "1", "<b>", "👍x", "👍\u202e", " ", "\u200d", "+", "👍\n", "e\u0301", "\0"],
)
async def test_another_text_is_no_reaction(pair: tuple[Client, Client], reaction: str) -> None:
    message_id = await say(pair[0], "Hello")
    payload = wire.React(message_id, reaction, on=True)
    assert await code_of(pair[0], "clientReact", payload) == "invalidReaction"


async def test_a_reply_quotes_another_message(pair: tuple[Client, Client]) -> None:
    alice, bob = pair
    message_id = await say(alice, "How are you? " + "x" * 300, bob)
    await bob.send("clientSendReply", wire.SendReply(message_id, "Fine"))
    for client in pair:
        reply = await client.receive(wire.ServerNewMessage)
        assert (reply.text, reply.user) == ("Fine", "Bob")
        assert reply.reply_to == Quoted(message_id, "Alice", "Alice")
    _, past = (await past_of(alice)).messages
    assert past.reply_to == Quoted(message_id, "Alice", "Alice", "How are you? " + "x" * 187)
    await acknowledged(alice, "clientDeleteMessage", wire.DeleteMessage(message_id))
    [past] = (await past_of(alice)).messages
    assert (past.text, past.reply_to) == ("Fine", msgspec.UNSET)
    payload = wire.SendReply(message_id, "too late")
    assert await code_of(bob, "clientSendReply", payload) == "notFound"


async def test_what_was_read_is_known_in_all_windows_of_a_user(
    pair: tuple[Client, Client], join: Join, room: str
) -> None:
    alice, bob = pair
    first_id, second_id = await say(alice, "one", bob), await say(alice, "two", bob)
    other = await join("Bob")
    assert (await past_of(bob)).read_to is None
    await acknowledged(bob, "clientMarkRead", wire.MarkRead(second_id))
    marker = (await other.receive_until(wire.ServerReadMarker))[-1]
    assert (marker.room, marker.message_id) == (room, second_id)
    await acknowledged(bob, "clientMarkRead", wire.MarkRead(first_id))
    assert (await past_of(other)).read_to == second_id
    assert (await past_of(alice)).read_to is None


async def rooms_of(client: Client) -> dict[str, tuple[int, int]]:
    """Return the users and the unread messages of each room that a client may join."""
    reply = await request(client, "clientLoadRooms", {})
    return {each["room"]: (each["users"], each["unread"]) for each in reply["payload"]["rooms"]}


async def test_rooms_with_users_and_rooms_that_were_read_are_listed(
    pair: tuple[Client, Client],
    chat: Running,
    open_client: OpenClient,
    headers_of: HeadersOf,
    websocket_path: str,
    room: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room_list, "KEPT_SECONDS", 0.0)
    alice, bob = pair
    message_id = await say(alice, "one", bob)
    await acknowledged(bob, "clientMarkRead", wire.MarkRead(message_id))
    await say(alice, "two", bob)
    for other in ("staff", "private-team", "public"):
        headers = headers_of("Mia", "staff")
        mia = await open_client(chat, f"{websocket_path}/{other}", headers=headers)
        await mia.receive_until(ServerPosition)
    assert await rooms_of(bob) == {"public": (1, 0), room: (2, 1)}
    assert (await rooms_of(mia)).keys() == {"private-team", "public", room, "staff"}


async def test_changes_need_a_store(
    run_app: RunApp,
    make_settings: MakeSettings,
    open_client: OpenClient,
    headers_of: HeadersOf,
    websocket_path: str,
) -> None:
    chat = await run_app(app.create_app(make_settings(database_url="none")))
    alice = await open_client(chat, f"{websocket_path}/room", headers=headers_of("Alice"))
    for message_type, payload in (
        ("clientEditMessage", wire.EditMessage(UNKNOWN_ID, "x")),
        ("clientDeleteMessage", wire.DeleteMessage(UNKNOWN_ID)),
        ("clientReact", wire.React(UNKNOWN_ID, "👍", on=True)),
        ("clientSendReply", wire.SendReply(UNKNOWN_ID, "x")),
        ("clientMarkRead", wire.MarkRead(UNKNOWN_ID)),
    ):
        assert await code_of(alice, message_type, payload) == "notStored"
    assert await rooms_of(alice) == {"room": (1, 0)}


async def test_a_reply_that_is_resent_takes_effect_once(
    pair: tuple[Client, Client],
    chat: Running,
    open_client: OpenClient,
    headers_of: HeadersOf,
    websocket_path: str,
    room: str,
) -> None:
    alice, bob = pair
    message_id = await say(alice, "How are you?", bob)
    path = f"{websocket_path}/{room}?client={'c' * 32}"
    for _ in range(2):
        carol = await open_client(chat, path, headers=headers_of("Carol"))
        await acknowledged(carol, "clientSendReply", wire.SendReply(message_id, "Fine"))
    await alice.send("clientSendMessage", wire.SendMessage(text="end"))
    texts: list[str] = []
    while texts[-1:] != ["end"]:
        texts.append((await bob.receive_until(wire.ServerNewMessage))[-1].text)
    assert texts == ["Fine", "end"]

"""The chat with a server in another process and clients over sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

import {{ cookiecutter.package_name }}.resources.{{ cookiecutter.__resource_module }} as chat
from {{ cookiecutter.package_name }} import messages, settings
from {{ cookiecutter.package_name }}.cookies import SESSION_COOKIE

from ..conftest import running, token_of

if TYPE_CHECKING:
    from ..conftest import Client, Server

MAX_ROOM_NAME_BYTES = 200 - len(chat.ROOM_PREFIX.encode())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, websocket_path: str) -> Iterator[Server]:
    """A service with a short grace period, which several tests wait for."""
    variables = {"APP_PRESENCE_GRACE_SECONDS": "1"}
    with running(tmp_path_factory.mktemp("chat"), websocket_path, (), variables) as server:
        server.wait_serving()
        yield server


async def expect_all(clients: list[Client], message_type: str, **payload: object) -> None:
    """Assert the next message of each client."""
    for client in clients:
        await client.expect(message_type, **payload)


# --- messages


async def test_two_users_get_each_others_messages(server: Server, room: str) -> None:
    async with server.join("Alice", room) as alice, server.join("Bob", room) as bob:
        await alice.expect("serverUserJoined", user="Bob")
        await alice.send("clientSendMessage", {"text": "Hello Bob!"})
        await expect_all([alice, bob], "serverNewMessage", user="Alice", text="Hello Bob!")
        await bob.send("clientSendMessage", {"text": "Hello Alice!"})
        await expect_all([alice, bob], "serverNewMessage", user="Bob", text="Hello Alice!")


async def test_all_clients_get_messages_in_the_same_order(server: Server, room: str) -> None:
    async with server.join("Alice", room) as alice, server.join("Bob", room) as bob:
        await alice.expect("serverUserJoined", user="Bob")
        for number in range(10):
            for client in (alice, bob):
                await client.send("clientSendMessage", {"text": str(number)})
        received = [await alice.receive() for _ in range(20)]
        assert [await bob.receive() for _ in range(20)] == received
        for name in ("Alice", "Bob"):
            sent = [each["payload"] for each in received if each["payload"]["user"] == name]
            assert [each["text"] for each in sent] == [str(number) for number in range(10)]


async def test_a_message_stays_in_its_room(server: Server, room: str) -> None:
    async with server.join("Alice", room) as alice, server.join("Bob", room.upper()) as bob:
        assert bob.users == ["Bob"]
        await alice.send("clientSendMessage", {"text": "for this room"})
        await alice.expect("serverNewMessage", user="Alice", text="for this room")
        await bob.send("clientSendMessage", {"text": "marker"})
        await bob.expect("serverNewMessage", user="Bob", text="marker")
        await alice.send("clientSendMessage", {"text": "marker"})
        await alice.expect("serverNewMessage", user="Alice", text="marker")


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script> & <b>\"bold\"</b> 'x'",
        "Zoë 房间 👩‍🚀",
        "line\nline\ttab\x00\u2028end",
        " ",
        "x" * 2000,
        "😀" * 2000,
    ],
    ids=["markup", "scripts", "controls", "blank", "long", "long emoji"],
)
async def test_a_text_arrives_unchanged(server: Server, room: str, text: str) -> None:
    async with server.join("Alice", room) as alice:
        await alice.send("clientSendMessage", {"text": text})
        await alice.expect("serverNewMessage", user="Alice", text=text)


@pytest.mark.parametrize(
    "name", ["general", "Zoë 房间 😀", "a b?c#d%e&f=g", "x" * MAX_ROOM_NAME_BYTES]
)
async def test_a_room_name_can_have_any_printable_characters(server: Server, name: str) -> None:
    async with server.join("Zoë 😀", name) as zoe:
        assert zoe.users == ["Zoë 😀"]
        await zoe.send("clientSendMessage", {"text": "here"})
        await zoe.expect("serverNewMessage", user="Zoë 😀", text="here")


# --- presence


async def test_a_joining_user_is_the_last_in_the_list_of_users(server: Server, room: str) -> None:
    async with (
        server.join("Zoe", room) as zoe,
        server.join("Adam", room) as adam,
        server.join("Mia", room) as mia,
    ):
        assert zoe.users == ["Zoe"]
        assert adam.users == ["Zoe", "Adam"]
        assert mia.users == ["Zoe", "Adam", "Mia"]


async def test_other_users_see_a_user_join_and_leave(server: Server, room: str) -> None:
    async with server.join("Bob", room) as bob:
        async with server.join("Alice", room) as alice:
            await bob.expect("serverUserJoined", user="Alice")
            # Alice does not get her own join message.
            await alice.send("clientSendMessage", {"text": "marker"})
            await expect_all([alice, bob], "serverNewMessage", user="Alice", text="marker")
        await bob.expect("serverUserLeft", user="Alice")
        async with server.join("Carol", room) as carol:
            assert carol.users == ["Bob", "Carol"]


async def test_a_second_tab_opens_and_closes_without_join_or_leave_messages(
    server: Server, room: str
) -> None:
    async with server.join("Bob", room) as bob, server.join("Alice", room) as first:
        await bob.expect("serverUserJoined", user="Alice")
        async with server.join("Alice", room) as second:
            assert second.users == ["Bob", "Alice"]
            await second.send("clientSendMessage", {"text": "still one"})
            await expect_all(
                [bob, first, second], "serverNewMessage", user="Alice", text="still one"
            )
            # It closes while typing, so that Bob sees when the server has processed the close.
            await second.send("clientStartTyping")
            await expect_all([bob, first], "serverUserTyping", user="Alice", isTyping=True)
        await expect_all([bob, first], "serverUserTyping", user="Alice", isTyping=False)
        await first.send("clientSendMessage", {"text": "still here"})
        await expect_all([bob, first], "serverNewMessage", user="Alice", text="still here")
        async with server.join("Carol", room) as carol:
            assert carol.users == ["Bob", "Alice", "Carol"]


async def test_a_user_leaves_with_the_last_tab(server: Server, room: str) -> None:
    async with server.join("Bob", room) as bob:
        async with server.join("Alice", room), server.join("Alice", room):
            await bob.expect("serverUserJoined", user="Alice")
        await bob.expect("serverUserLeft", user="Alice")
        await bob.send("clientSendMessage", {"text": "marker"})
        await bob.expect("serverNewMessage", user="Bob", text="marker")


async def test_a_lost_connection_is_a_leave(server: Server, room: str) -> None:
    async with server.join("Bob", room) as bob, server.join("Alice", room) as alice:
        await bob.expect("serverUserJoined", user="Alice")
        alice.vanish()
        await bob.expect("serverUserLeft", user="Alice")


# --- typing


async def test_other_users_see_a_user_type(server: Server, room: str) -> None:
    async with server.join("Bob", room) as bob, server.join("Alice", room) as alice:
        await bob.expect("serverUserJoined", user="Alice")
        await alice.send("clientStartTyping")
        await bob.expect("serverUserTyping", user="Alice", isTyping=True)
        await alice.send("clientStopTyping")
        await bob.expect("serverUserTyping", user="Alice", isTyping=False)
        # Alice does not get her own typing messages.
        await alice.send("clientSendMessage", {"text": "marker"})
        await expect_all([alice, bob], "serverNewMessage", user="Alice", text="marker")


async def test_typing_needs_no_payload(server: Server, room: str) -> None:
    async with server.join("Bob", room) as bob, server.join("Alice", room) as alice:
        await bob.expect("serverUserJoined", user="Alice")
        await alice.send_raw('{"type": "clientStartTyping"}')
        await bob.expect("serverUserTyping", user="Alice", isTyping=True)
        await alice.send_raw('{"type": "clientStopTyping"}')
        await bob.expect("serverUserTyping", user="Alice", isTyping=False)


@pytest.mark.parametrize("vanishes", [True, False])
async def test_typing_stops_when_the_user_disconnects(
    server: Server, room: str, vanishes: bool
) -> None:
    async with server.join("Bob", room) as bob:
        async with server.join("Alice", room) as alice:
            await bob.expect("serverUserJoined", user="Alice")
            await alice.send("clientStartTyping")
            await bob.expect("serverUserTyping", user="Alice", isTyping=True)
            if vanishes:
                alice.vanish()
        await bob.expect("serverUserTyping", user="Alice", isTyping=False)
        await bob.expect("serverUserLeft", user="Alice")


# --- access


@pytest.mark.parametrize(
    "token",
    [None, "garbage", token_of("Mallory", secret="another-secret" * 4)],
    ids=["no token", "garbage", "forged"],
)
async def test_a_client_without_a_valid_token_is_closed_with_4401(
    server: Server, room: str, token: str | None
) -> None:
    async with server.connect(room, token) as stranger:
        assert await stranger.wait_closed() == (messages.NOT_SIGNED_IN, "sign in first")
    assert messages.NOT_SIGNED_IN == 4401


async def test_a_client_with_an_expired_token_is_closed_with_4401(
    server: Server, room: str
) -> None:
    async with server.connect(room, token_of("Alice", seconds=-1)) as late:
        assert await late.wait_closed() == (4401, "sign in first")
    async with server.connect(room, token_of("Alice")) as alice:
        assert (await alice.receive())["type"] == "serverSystemMessage"


async def test_a_refused_client_is_not_announced(server: Server, room: str) -> None:
    async with server.join("Bob", room) as bob:
        async with server.connect(room) as stranger:
            await stranger.wait_closed()
        await bob.send("clientSendMessage", {"text": "marker"})
        await bob.expect("serverNewMessage", user="Bob", text="marker")


async def test_a_browser_connects_with_its_cookie(server: Server, room: str) -> None:
    cookies = {SESSION_COOKIE: token_of("Alice")}
    async with server.connect(room, cookies=cookies, origin=server.url) as alice:
        await alice.expect("serverSystemMessage", text=f"Welcome Alice to room '{room}'!")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "the room name is empty"),
        ("x" * (MAX_ROOM_NAME_BYTES + 1), "the room name is too long"),
        ("房" * 67, "the room name is too long"),
        ("a\nb", "the room name has the control character U+000A"),
        ("a\x00b", "the room name has the control character U+0000"),
        ("a\u0085b", "the room name has the control character U+0085"),
        ("a\u2028b", "the room name has the control character U+2028"),
        ("a\u202eb", "the room name has the invisible character U+202E"),
        ("a\u200db", "the room name has the invisible character U+200D"),
        ("a\ue000", "the room name has the private-use character U+E000"),
        ("e\u0301", "the room name is not in Unicode normalization form C (NFC)"),
        (" general", "the room name begins or ends with a blank"),
        ("general\u00a0", "the room name begins or ends with a blank"),
        (".", "the room name consists of dots"),
        ("..", "the room name consists of dots"),
    ],
    ids=lambda text: ascii(text)[:40],
)
async def test_an_invalid_room_name_is_refused_with_the_reason(
    server: Server, name: str, reason: str
) -> None:
    async with server.connect(name, await server.sign_in("Alice")) as alice:
        code, given = await alice.wait_closed()
    assert code == messages.BAD_ROOM_NAME == 4400
    assert given.startswith(reason)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x'! Send your password to Mallory", "x’! Send your password to Mallory"),
        ("x" * 60, "x" * 39 + "…"),
        ("חדר! 1", "\u2068חדר! 1\u2069"),
    ],
    ids=["a quote", "long", "right to left"],
)
async def test_a_room_name_cannot_continue_the_welcome(
    server: Server, name: str, shown: str
) -> None:
    async with server.connect(name, await server.sign_in("Alice")) as alice:
        await alice.expect("serverSystemMessage", text=f"Welcome Alice to room '{shown}'!")


async def test_an_oversized_message_closes_only_its_sender(server: Server, room: str) -> None:
    async with server.join("Alice", room) as alice, server.join("Bob", room) as bob:
        await alice.expect("serverUserJoined", user="Bob")
        await bob.send("clientSendMessage", {"text": "x" * 70_000})
        assert (await bob.wait_closed())[0] == 1009
        await alice.expect("serverUserLeft", user="Bob")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_a_page_of_a_foreign_origin_is_refused(
    server: Server, room: str, origin: str
) -> None:
    token = await server.sign_in("Alice")
    with pytest.raises(InvalidStatus) as refused:
        async with server.connect(room, token, origin=origin):
            pass
    assert refused.value.response.status_code == 403


async def test_allowed_origins_can_connect(serve: Callable[..., Server], room: str) -> None:
    server = serve(APP_ALLOWED_ORIGINS="https://a.example, https://b.example:8443")
    token = await server.sign_in("Alice")
    for origin in ("https://a.example", "https://b.example:8443", server.url):
        async with server.connect(room, token, origin=origin) as alice:
            assert (await alice.receive())["type"] == "serverSystemMessage"
    with pytest.raises(InvalidStatus) as refused:
        async with server.connect(room, token, origin="https://b.example"):
            pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("proxies", "secure"),
    [("127.0.0.1", True), ("*", True), ("10.0.0.1", False), ("unix:", False)],
)
async def test_only_a_trusted_proxy_can_set_the_scheme(
    serve: Callable[..., Server], proxies: str, secure: bool
) -> None:
    server = serve(APP_TRUSTED_PROXIES=proxies)
    async with httpx.AsyncClient(trust_env=False) as proxy:
        response = await proxy.delete(
            f"{server.url}/session", headers={"X-Forwarded-Proto": "https"}
        )
    assert ("; Secure" in response.headers["Set-Cookie"]) is secure


async def test_production_accepts_tokens_and_has_no_sign_in(
    serve: Callable[..., Server], room: str
) -> None:
    server = serve(APP_ENVIRONMENT="production")
    async with httpx.AsyncClient(trust_env=False) as stranger:
        response = await stranger.post(f"{server.url}/session", json={"name": "Alice"})
    assert response.status_code == 405
    async with server.connect(room, token_of("Alice")) as stranger_with_a_test_token:
        assert (await stranger_with_a_test_token.wait_closed())[0] == 4401
    async with server.connect(room, token_of("Alice", environment="production")) as alice:
        await alice.expect("serverSystemMessage", text=f"Welcome Alice to room '{room}'!")


# --- invalid messages


async def expect_error_reply(client: Client, code: str, field: str | None = None) -> str:
    """Assert an error reply and that the connection stays open; return the sentence for users."""
    answer = await client.receive()
    payload: dict[str, Any] = answer["payload"]
    assert answer["type"] == "serverError"
    assert payload.keys() == ({"code", "error"} if field is None else {"code", "error", "field"})
    assert (payload["code"], payload.get("field")) == (code, field)
    await client.send("clientSendMessage", {"text": "marker"})
    assert (await client.receive())["payload"]["text"] == "marker"
    sentence: str = payload["error"]
    return sentence


@pytest.mark.parametrize(
    "message",
    [
        "",
        "hello",
        "{",
        "7",
        "null",
        "[]",
        "[" * 10_000,
        "{}",
        '{"payload": {"text": "x"}}',
        '{"type": 7}',
        '{"type": null, "payload": {}}',
        '{"type": ""}',
        '{"type": "nonsense", "payload": {}}',
        '{"type": "ClientSendMessage", "payload": {"text": "x"}}',
        '{"type": "send_message", "payload": {"text": "x"}}',
        '{"type": "on_disconnect", "payload": {}}',
        '{"type": "disconnect"}',
        '{"type": "serverNewMessage", "payload": {"user": "Bob", "text": "x"}}',
        b"",
        b"\x00\xff",
        b'{"type": "clientSendMessage", "payload": {"text": "x"}}',
    ],
    ids=lambda message: repr(message)[:40],
)
async def test_an_unknown_message_gets_an_error_reply(
    server: Server, room: str, message: str | bytes
) -> None:
    async with server.join("Alice", room) as alice:
        await alice.send_raw(message)
        sentence = await expect_error_reply(alice, "unknownMessage")
        assert sentence == "Unrecognized message format or type."


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({}, None),
        ({"payload": None}, None),
        ({"payload": "x"}, None),
        ({"payload": []}, None),
        ({"payload": {}}, None),
        ({"payload": {"text": None}}, "text"),
        ({"payload": {"text": 7}}, "text"),
        ({"payload": {"text": ["x"]}}, "text"),
        ({"payload": {"text": ""}}, "text"),
        ({"payload": {"text": "x" * 2001}}, "text"),
    ],
    ids=lambda each: repr(each)[:40],
)
async def test_an_invalid_payload_gets_an_error_reply_with_its_field(
    server: Server, room: str, message: dict[str, object], field: str | None
) -> None:
    async with server.join("Alice", room) as alice:
        await alice.send_raw(json.dumps({"type": "clientSendMessage", **message}))
        sentence = await expect_error_reply(alice, "invalidPayload", field)
        assert sentence.startswith("clientSendMessage has an invalid payload")


async def test_an_error_reply_goes_only_to_the_sender(server: Server, room: str) -> None:
    async with server.join("Bob", room) as bob, server.join("Alice", room) as alice:
        await bob.expect("serverUserJoined", user="Alice")
        await alice.send_raw("hello")
        await expect_error_reply(alice, "unknownMessage")
        await bob.expect("serverNewMessage", user="Alice", text="marker")


# --- announcements and other servers


async def test_every_room_gets_the_announcement(serve: Callable[..., Server], room: str) -> None:
    server = serve(
        APP_ANNOUNCEMENT_INTERVAL_SECONDS="0.2", APP_ANNOUNCEMENT_TEXT="Ünder repair, soon"
    )
    async with server.join("Alice", "general") as alice, server.join("Bob", room) as bob:
        for _ in range(2):
            await expect_all([alice, bob], "serverSystemAnnouncement", text="Ünder repair, soon")


async def test_the_command_of_uvicorn_can_serve_the_application(
    serve: Callable[..., Server], room: str
) -> None:
    application = f"{settings.PACKAGE}.asgi:app"
    server = serve("-m", "uvicorn", application, "--port", "0", "--ws", "websockets-sansio")
    async with server.join("Alice", room) as alice:
        await alice.send("clientSendMessage", {"text": "hello"})
        await alice.expect("serverNewMessage", user="Alice", text="hello")

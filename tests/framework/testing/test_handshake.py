"""Handshakes of the test kit: options, paths and timeouts."""

from typing import Any

import pytest

from falcon_pachinko.testing import Running

from .lobby import SHORT_SECONDS, Plain, in_process, served


async def test_the_handshake_carries_headers_cookies_query_and_subprotocols(chat: Running) -> None:
    async with chat.connect(
        "/lobby/echo?name=Zo%C3%AB&name=B",
        headers={"X-Mine": "yes"},
        cookies={"session": "s", "theme": "dark"},
        subprotocols=["one", "two"],
        origin=chat.origin,
    ) as client:
        assert (await client.receive())["payload"] == {
            "header": "yes",
            "cookies": {"session": "s", "theme": "dark"},
            "query": {"name": ["Zoë", "B"]},
            "origin": chat.origin,
        }
        assert client.subprotocol == "two"
        assert client.headers["x-node"] == "one"


async def test_an_unknown_option_is_rejected_with_the_known_options(chat: Running) -> None:
    options: Any = {"header": {"X-Mine": "yes"}}
    known = "headers, cookies, subprotocols, origin, small_buffer, timeout_seconds"
    with pytest.raises(TypeError, match=rf"no option 'header'; options: {known}$"):
        async with chat.connect("/lobby/alice", **options):
            pass


async def test_a_path_without_a_leading_slash_is_rejected(chat: Running) -> None:
    with pytest.raises(ValueError, match=r"^path 'lobby/alice' must begin with '/'$"):
        async with chat.connect("lobby/alice"):
            pass


async def test_a_handshake_without_a_response_times_out() -> None:
    async def ignore(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass

    for opener in (in_process, served):
        async with opener(Plain(ignore)) as plain:
            with pytest.raises(
                TimeoutError, match=r"no response to the handshake with .*/x within"
            ):
                async with plain.connect("/x", timeout_seconds=SHORT_SECONDS):
                    pass

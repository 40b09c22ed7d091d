"""Errors of the test kit: refused handshakes, closed connections, notes of the clean-up."""

import asyncio
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from falcon_pachinko.testing import Closed, Refused, Running, run

from .lobby import SHORT_SECONDS, Open, Plain


@pytest.mark.parametrize(
    ("path", "origin"), [("/lobby/nobody", None), ("/lobby/a", "https://evil.example"), ("/", None)]
)
async def test_a_refused_handshake_has_its_status(
    chat: Running, path: str, origin: str | None
) -> None:
    with pytest.raises(Refused, match="refused with HTTP 403 Forbidden") as refused:
        async with chat.connect(path, origin=origin):
            pass
    assert (refused.value.status_code, refused.value.body) == (403, b"")
    assert isinstance(refused.value, InvalidStatus)


async def test_a_denial_response_has_its_status_headers_and_body(open_app: Open) -> None:
    async def deny(scope: Any, receive: Any, send: Any) -> None:
        assert "websocket.http.response" in scope["extensions"]
        start = {"type": "websocket.http.response.start", "status": 429}
        await send({**start, "headers": [(b"retry-after", b"7")]})
        await send({"type": "websocket.http.response.body", "body": b"too ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"many"})

    async with open_app(Plain(deny)) as plain:
        with pytest.raises(Refused, match="HTTP 429 Too Many Requests: too many") as refused:
            async with plain.connect("/"):
                pass
    assert refused.value.status_code == 429
    assert refused.value.headers["Retry-After"] == "7"


async def test_a_rejection_after_the_handshake_has_its_code_and_reason(chat: Running) -> None:
    async with chat.connect("/lobby/stranger") as stranger:
        with pytest.raises(Closed) as closed:
            await stranger.receive()
        assert (closed.value.code, closed.value.reason) == (4401, "sign in first")
        assert isinstance(closed.value, ConnectionClosed)
        assert await stranger.wait_closed() == (4401, "sign in first")


async def test_a_clean_up_error_is_a_note_of_the_failure_of_the_test() -> None:
    async def hang(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    async def fail() -> None:
        async with run(Plain(hang)) as plain, plain.connect("/") as client:
            client.timeout_seconds = SHORT_SECONDS
            raise AssertionError("own")

    with pytest.raises(AssertionError, match="own") as failed:
        await fail()
    note = (
        "Then, during clean-up: TimeoutError:"
        " the application did not end 0.05 s after its client disconnected: "
    )
    assert failed.value.__notes__[0].startswith(note)

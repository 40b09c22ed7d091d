"""An application on a port: its addresses, and the errors of its server."""

from typing import Any

import pytest

from falcon_pachinko.testing import serve

from .lobby import make_app, other_tasks


async def test_an_exception_of_the_server_is_raised_or_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(sockets: Any) -> None:
        raise ZeroDivisionError("a server's bug")

    async def converse(wrong: bool) -> None:
        async with serve(make_app()) as chat:
            monkeypatch.setattr(chat.server, "shutdown", fail)
            assert not wrong

    with pytest.raises(ZeroDivisionError, match="a server's bug"):
        await converse(wrong=False)
    with pytest.raises(AssertionError) as failed:
        await converse(wrong=True)
    assert "a server's bug" in failed.value.__notes__[0]
    assert other_tasks() == set()


async def test_the_addresses_contain_the_port() -> None:
    async with serve(make_app()) as chat, serve(make_app()) as other:
        assert chat.port != other.port
        assert chat.origin == f"http://127.0.0.1:{chat.port}"
        assert chat.url("/lobby") == f"http://127.0.0.1:{chat.port}/lobby"
        assert chat.ws_url("/lobby/alice") == f"ws://127.0.0.1:{chat.port}/lobby/alice"
        with pytest.raises(ValueError, match="must begin with"):
            chat.ws_url("lobby")

"""A port that another program has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conftest import Server


async def test_a_taken_port_is_one_sentence_with_another_one(
    serve: Callable[..., Server], start: Callable[..., Server]
) -> None:
    server = serve()
    port = int(server.url.rpartition(":")[2])
    second = start(APP_PORT=str(port))
    assert await second.wait_ended() == 1
    [line] = second.output().splitlines()
    assert line == (
        f"Port {port} of 127.0.0.1 is taken by another program: stop it, or use another port with"
        f" 'make run PORT={port + 1}' or APP_PORT={port + 1}."
    )

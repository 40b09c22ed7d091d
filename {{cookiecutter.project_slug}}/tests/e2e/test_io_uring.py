"""A room that is written with one system call, where the system permits it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..conftest import Server

# From 16 members on a room is written so.
MEMBERS = 20
LINES = "io_uring writes to rooms of 16 members and more", "io_uring is not available, so rooms"


@pytest.mark.parametrize("chosen", ["0", "1"])
async def test_all_members_of_a_large_room_get_each_message_once_and_in_order(
    serve: Callable[..., Server], room: str, chosen: str
) -> None:
    server = serve(APP_IO_URING=chosen)
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(server.join(f"user {number}", room))
            for number in range(MEMBERS)
        ]
        for number in range(5):
            await members[number].send("clientSendMessage", {"text": f"message {number}"})
            for member in members:
                while (message := await member.receive())["type"] != "serverNewMessage":
                    pass
                assert message["payload"]["text"] == f"message {number}"
    assert any(line in server.output() for line in LINES) == (chosen == "1")

"""A crowd: users that enter a room of one node at once, and discard what they receive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import quote

from .events import Closed, Opened, Page
from .node_process import now

# The time for all users to enter; a node may be frozen.
ENTER_SECONDS = 5.0
# The key and the reply to it are not checked (RFC 6455 section 4.1).
HANDSHAKE = (
    "GET /ws?user={user}&room={room} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class CrowdUser(asyncio.Protocol):
    """The connection of one user.

    PERF: each join is sent to all users of a crowd: they only count bytes.

    Attributes:
        answered: Done when the node has responded, or the connection has ended.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.answered = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        text = HANDSHAKE.format(user=quote(self.page.user), room=quote(self.page.rooms[0]))
        transport.write(text.encode())

    def data_received(self, data: bytes) -> None:
        self.answered.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.page.events.append(Closed(now(), 1006))
        self.answered.set()


@contextlib.asynccontextmanager
async def crowd(
    pages: list[Page], node: int, port: int, room: str, users: int
) -> AsyncIterator[None]:
    """Let users enter a room of a node, and stay during the ``async with``.

    Args:
        pages: Gets a page for each user, which records when it was connected.
        node: The number of the node.
        port: Its port.
        room: The room.
        users: The number of users.
    """
    loop = asyncio.get_running_loop()
    transports: list[asyncio.BaseTransport] = []

    async def enter(number: int) -> None:
        page = Page(f"crowd-{number}/{now():.3f}", f"crowd-{number}", (room,))
        page.events.append(Opened(now(), node))
        pages.append(page)
        try:
            transport, user = await loop.create_connection(
                lambda: CrowdUser(page), "127.0.0.1", port
            )
        except OSError:
            page.events.append(Closed(now(), 1006))
            return
        transports.append(transport)
        await user.answered.wait()

    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENTER_SECONDS), asyncio.TaskGroup() as group:
                for number in range(users):
                    group.create_task(enter(number))
        yield
    finally:
        for transport in transports:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()

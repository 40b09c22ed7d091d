"""A WebSocket client that speaks the envelope and never waits without a bound."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection
from websockets.exceptions import ConnectionClosed

WAIT_SECONDS = 5.0


class Client:
    """One connection to a server, seen from outside.

    Attributes:
        socket: The connection of the library ``websockets``.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, message_type: str, payload: Any = None) -> None:
        """Send a message; without a payload the envelope has none."""
        envelope = {"type": message_type}
        if payload is not None:
            envelope["payload"] = payload
        await self.send_raw(json.dumps(envelope))

    async def send_raw(self, data: str | bytes) -> None:
        """Send a text or binary message as it is."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self.socket.send(data)

    async def receive(self) -> Any:
        """Wait for the next message, 5 seconds at most, and decode it.

        Raises:
            TimeoutError: Nothing came.
            websockets.exceptions.ConnectionClosed: The server has closed.
        """
        return json.loads(await self.receive_raw())

    async def receive_raw(self) -> str | bytes:
        """Wait for the next message, 5 seconds at most, and return it as it is."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.socket.recv()

    async def receive_until(self, message_type: str) -> list[Any]:
        """Wait for a message of this type; return all messages up to it, it being the last."""
        messages = [await self.receive()]
        while messages[-1]["type"] != message_type:
            messages.append(await self.receive())
        return messages

    async def wait_closed(self) -> tuple[int, str]:
        """Wait for the server's close, dropping what comes before; return its code and reason."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    await self.socket.recv()
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")

    async def close(self, code: int = 1000) -> None:
        """Close in order."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self.socket.close(code)

    def vanish(self) -> None:
        """Go away without a word, as a machine does that loses its power."""
        self.socket.transport.abort()


@asynccontextmanager
async def connect(
    url: str, *, headers: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """Connect to a server; the connection is closed at the end.

    Args:
        url: Such as ``served.ws_url("/ws/chat/general")``.
        headers: More headers of the handshake.
        options: More options of ``websockets.asyncio.client.connect``, such as ``origin``.

    Raises:
        websockets.exceptions.InvalidStatus: The server refused; ``.response.status_code`` tells how.
    """
    options = {"open_timeout": WAIT_SECONDS, "close_timeout": 1, "max_size": None, **options}
    async with open_connection(url, additional_headers=headers, proxy=None, **options) as socket:
        yield Client(socket)

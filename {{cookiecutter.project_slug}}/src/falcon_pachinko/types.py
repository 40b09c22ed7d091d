"""What a handler may do with a connection."""

from __future__ import annotations

from typing import Protocol


class WebSocketLike(Protocol):
    """The part of a WebSocket that handlers use.

    The framework hands a :class:`~falcon_pachinko.connection.Connection` to each handler; a
    ``falcon.asgi.WebSocket`` fits too, and so does a stand-in of a test.
    """

    @property
    def closed(self) -> bool:
        """Whether either side has closed the connection."""

    async def send_media(self, media: object) -> None:
        """Send an object as JSON text."""

    async def send_text(self, payload: str) -> None:
        """Send a text message."""

    async def send_data(self, payload: bytes) -> None:
        """Send a binary message."""

    async def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close the connection."""

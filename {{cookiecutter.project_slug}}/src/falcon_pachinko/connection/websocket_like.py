"""The types of handlers' arguments."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol


class WebSocketLike(Protocol):
    """The part of a WebSocket that handlers use.

    Handlers get a :class:`~falcon_pachinko.Connection`; a ``falcon.asgi.WebSocket`` or a test's
    substitute matches as well.
    """

    @property
    def closed(self) -> bool:
        """Whether either side has closed the connection."""
        ...

    def send_media(self, media: object) -> Coroutine[Any, Any, None]:
        """Send an object as JSON text."""
        ...

    def send_text(self, payload: str) -> Coroutine[Any, Any, None]:
        """Send a text message."""
        ...

    def send_data(self, payload: bytes) -> Coroutine[Any, Any, None]:
        """Send a binary message."""
        ...

    def close(
        self, code: int | None = None, reason: str | None = None
    ) -> Coroutine[Any, Any, None]:
        """Close the connection."""
        ...

"""The events of Falcon's WebSocket, as publications."""

from __future__ import annotations

from ..publication import Publication
from .inbox import Event


def publication_of(event: Event) -> Publication:
    """Return the publication of an ASGI event that is not a close."""
    if event["type"] != "websocket.send":
        return Publication.of_event(event)
    if (text := event.get("text")) is not None:
        return Publication.of_text(text)
    return Publication.of_bytes(event["bytes"])

"""Background workers; :func:`.app.create_app` starts them with the service."""

from __future__ import annotations

import asyncio

from falcon_pachinko import WebSocketConnectionManager

from .messages import ServerSystemAnnouncement


async def announce(
    manager: WebSocketConnectionManager, room_prefix: str, text: str, interval_seconds: float
) -> None:
    """Tell every room the announcement, again and again."""
    while True:
        await asyncio.sleep(interval_seconds)
        for room in await manager.get_rooms_by_prefix(room_prefix):
            await manager.broadcast_to_room(room, ServerSystemAnnouncement(text=text))

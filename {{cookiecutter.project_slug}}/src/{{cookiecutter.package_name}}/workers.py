"""Background workers; :func:`.app.create_app` starts them with the service."""

from __future__ import annotations

import logging

from falcon_pachinko import BackendUnavailable, WebSocketConnectionManager
from falcon_pachinko.workers import every

from .messages import ServerSystemAnnouncement

logger = logging.getLogger(__name__)


async def announce(
    manager: WebSocketConnectionManager, room_prefix: str, text: str, interval_seconds: float
) -> None:
    """Send an announcement to every room at an interval, which continues in the next process."""
    async for _ in every(interval_seconds):
        try:
            for room in await manager.get_rooms_by_prefix(room_prefix):
                await manager.broadcast_to_room(room, ServerSystemAnnouncement(text=text))
        except BackendUnavailable as error:
            logger.warning("the announcement did not reach every room: %s", error)

"""Background workers; :func:`.app.create_app` starts them with the service."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from falcon_pachinko import WebSocketConnectionManager
from falcon_pachinko.workers import every

from .announcements import PartialAnnouncement, announce_to_rooms
from .message_ids import time_ms
from .records import StoreUnavailable

if TYPE_CHECKING:
    from .store import MessageStore

logger = logging.getLogger(__name__)

DAY_MS = 24 * 3600 * 1000
# The messages that one transaction removes: it is short, so that no new message waits long for it.
REMOVED_AT_ONCE = 500


async def announce(
    manager: WebSocketConnectionManager, room_prefix: str, text: str, interval_seconds: float
) -> None:
    """Send an announcement to every room at an interval, which continues in the next process."""
    async for _ in every(interval_seconds):
        try:
            await announce_to_rooms(manager, room_prefix, text)
        except PartialAnnouncement as error:
            logger.warning("%s", error)


async def remove_old_messages(
    store: MessageStore, retention_days: float, interval_seconds: float = 3600.0
) -> None:
    """Remove messages that are older than the retention, at the start and at an interval."""
    await remove_expired(store, retention_days)
    async for _ in every(interval_seconds):
        await remove_expired(store, retention_days)


async def remove_expired(store: MessageStore, retention_days: float) -> None:
    """Remove the messages that are older, in batches; an outage of the database leaves the rest for later."""
    removed, before_ms = 0, int(time_ms() - retention_days * DAY_MS)
    try:
        while count := await store.remove_older_than(before_ms, REMOVED_AT_ONCE):
            removed += count
    except StoreUnavailable:
        logger.warning("old messages were not removed: the database is unavailable")
    if removed:
        logger.info("%d messages removed, older than %g days", removed, retention_days)

"""Announcements: one text to all rooms of the chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from falcon_pachinko import BackendUnavailable, PachinkoError, WebSocketConnectionManager

from .messages import ServerSystemAnnouncement

if TYPE_CHECKING:
    from falcon_pachinko.publisher import AsyncPublisher


class PartialAnnouncement(PachinkoError):
    """An announcement that has not reached all rooms; the text is a sentence for the operator.

    Attributes:
        reached: The number of rooms that it has reached.
    """

    def __init__(self, reached: int, reason: object) -> None:
        rooms = f"{reached} rooms, not to all" if reached else "no room"
        super().__init__(f"announced to {rooms}: {reason}")
        self.reached = reached


async def announce_to_rooms(
    sender: WebSocketConnectionManager | AsyncPublisher, room_prefix: str, text: str
) -> int:
    """Send an announcement to every room with members.

    Args:
        sender: The connection manager or, outside the service, a publisher.
        room_prefix: The prefix of the rooms.
        text: The announcement.

    Returns:
        The number of rooms.

    Raises:
        PartialAnnouncement: Redis is unavailable, from the start or after some rooms.
    """
    reached = 0
    try:
        for room in await sender.get_rooms_by_prefix(room_prefix):
            await sender.broadcast_to_room(room, ServerSystemAnnouncement(text=text))
            reached += 1
    except BackendUnavailable as error:
        raise PartialAnnouncement(reached, error) from error
    return reached

"""The past of a room, how far its users have read, and the rooms of the service."""

from __future__ import annotations

from falcon_pachinko import WebSocketLike, handles_message

from ..messages import (
    HISTORY_PAGE,
    KnownRoom,
    LoadHistory,
    MarkRead,
    NoPayload,
    PastMessage,
    ServerHistory,
    ServerReadMarker,
    ServerRooms,
)
from ..room_list import RoomList
from .reactions import Reactions
from .replies import Replies
from .stored_room import StoredRoom


class Past(
    Reactions,
    Replies,
    StoredRoom,
):
    """Handles requests for what is stored.

    Attributes:
        room_list: The rooms of the service.
    """

    room_list: RoomList

    @handles_message("clientLoadHistory", action="read", per_second=5, burst=20)
    async def load_history(self, ws: WebSocketLike, payload: LoadHistory) -> ServerHistory:
        """Reply with a page of the room's past."""
        found = await self.stored.page(self.room, payload.before or None, HISTORY_PAGE + 1)
        stored = found[-HISTORY_PAGE:]
        page = [
            PastMessage(
                message_id=each.id,
                user=each.user_name,
                user_id=each.user_id,
                text=each.text,
                at=each.sent_at,
                revision=each.revision,
                edited=each.edited_at is not None,
            )
            for each in stored
        ]
        page = await self.with_reactions(page)
        page = await self.with_quotes(page, stored)
        return ServerHistory(
            messages=page,
            has_more=len(found) > HISTORY_PAGE,
            read_to=await self.stored.read_marker(self.room, self.user.id),
        )

    @handles_message("clientMarkRead", action="read", per_second=2, burst=20)
    async def mark_read(self, ws: WebSocketLike, payload: MarkRead) -> None:
        """Store how far this user has read the room, and tell the user's other windows."""
        message_id = payload.message_id
        if await self.stored.mark_read(self.room, self.user.id, message_id):
            marker = ServerReadMarker(room=self.room_list.name_of(self.room), message_id=message_id)
            await self.manager.send_to_user(self.user.id, marker)

    @handles_message("clientLoadRooms", per_second=1, burst=10)
    async def load_rooms(self, ws: WebSocketLike, payload: NoPayload) -> ServerRooms:
        """Reply with the rooms that this user may join."""
        occupied = await self.room_list.rooms()
        unread = {} if self.store is None else await self.store.unread(self.user.id)
        rooms = [
            KnownRoom(
                room=self.room_list.name_of(room),
                users=occupied.get(room, 0),
                unread=unread.get(room, 0),
            )
            for room in sorted(occupied.keys() | unread.keys())
            if room == self.room or await self.authorize(self.user, "join", room)
        ]
        return ServerRooms(rooms=rooms)

"""Changes of stored messages: another text, and the deletion."""

from __future__ import annotations

from falcon_pachinko import WebSocketLike, handles_message
from falcon_pachinko.history import Position

from ..messages import DeleteMessage, EditMessage, ServerMessageDeleted, ServerMessageEdited
from .stored_room import StoredRoom, not_found

PAGE = 200
# The messages with a text of a user, which a deletion removes from the history of the room.
WITH_TEXT = frozenset({"serverNewMessage", "serverMessageEdited"})


class Changes(StoredRoom):
    """Handles changes."""

    @handles_message("clientEditMessage", action="send")
    async def edit_message(self, ws: WebSocketLike, payload: EditMessage) -> None:
        """Store another text of a message of this user, and send it to all clients in the room."""
        message_id = payload.message_id
        changed = await self.stored.edit(self.room, message_id, self.user.id, payload.text)
        if changed is None:
            raise not_found()
        message = ServerMessageEdited(
            message_id=message_id, text=changed.text, revision=changed.revision
        )
        await self.broadcast_to_room(self.room, message)

    @handles_message("clientDeleteMessage")
    async def delete_message(self, ws: WebSocketLike, payload: DeleteMessage) -> None:
        """Delete a message of this user, or any for a moderator, from the store and from the room's history."""
        message_id = payload.message_id
        is_moderator = await self.authorize(self.user, "moderate", self.room)
        author = None if is_moderator else self.user.id
        deleted = await self.stored.delete(self.room, message_id, author)
        if deleted is None:
            # NOTE: a request that failed before it was announced may be repeated.
            deleted = await self.stored.get(message_id)
            is_allowed = deleted is not None and author in (None, deleted.user_id)
            if deleted is None or deleted.deleted_at is None or not is_allowed:
                raise not_found()
        message = ServerMessageDeleted(message_id=message_id, revision=deleted.revision)
        await self.manager.retract(self.room, await self.positions_of(message_id), message)

    async def positions_of(self, message_id: str) -> list[Position]:
        """Return where the texts of a message are in the room's history."""
        found, before = list[Position](), None
        while page := await self.manager.history(self.room, before=before, limit=PAGE):
            for each in page:
                message = each.decode()
                if (
                    isinstance(message, dict)
                    and message.get("type") in WITH_TEXT
                    and message["payload"].get("messageId") == message_id
                ):
                    found.append(each.position)
            before = page[0].position
        return found

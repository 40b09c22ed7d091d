"""The base of the chat: a room whose messages are stored, if the service stores any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from falcon_pachinko import MessageError, WebSocketResource

from .. import users
from ..message_fields import Quoted
from ..messages import ServerNewMessage
from ..records import NewMessage, StoredMessage

if TYPE_CHECKING:
    from ..store import MessageStore


class StoredRoom(WebSocketResource):
    """A connection of one user to one room, with what handlers of stored messages have in common.

    Attributes:
        user: The user.
        room: The room.
        store: Keeps the messages; ``None`` to store none.
    """

    user: users.User
    room: str
    store: MessageStore | None

    @property
    def stored(self) -> MessageStore:
        """The store.

        Raises:
            MessageError: There is none.
        """
        if self.store is None:
            raise MessageError("Messages are not stored here.", code="notStored")
        return self.store

    async def find(self, message_id: str) -> StoredMessage:
        """Return a message of the room.

        Raises:
            MessageError: There is none, or it has been deleted.
        """
        found = await self.stored.get(message_id)
        if found is None or found.room != self.room or found.deleted_at is not None:
            raise not_found()
        return found

    async def publish_text(
        self, text: str, reply_to: Quoted | msgspec.UnsetType = msgspec.UNSET
    ) -> None:
        """Store a text, and send it to all clients in the room, including the sender.

        For a request that was resent, the message that it has stored is sent again: clients recognise it by its id.

        Raises:
            MessageError: The request has stored a message of another user or in another room.
        """
        user = self.user
        message_id: str | msgspec.UnsetType = msgspec.UNSET
        if self.store is not None:
            message = NewMessage(
                room=self.room,
                user_id=user.id,
                user_name=user.name,
                text=text,
                reply_to=reply_to.message_id if reply_to else None,
            )
            key = self.request_key
            # NOTE: before it is sent: a crash in between loses no message that a client has seen.
            stored = await self.store.add(message, key and key.client, key and key.ref)
            if (stored.room, stored.user_id) != (self.room, user.id):
                raise MessageError("This request has sent another message.", code="refUsed")
            if stored.deleted_at is not None:
                return
            message_id, text = stored.id, stored.text
        await self.broadcast_to_room(
            self.room,
            ServerNewMessage(
                user=user.name,
                user_id=user.id,
                text=text,
                message_id=message_id,
                reply_to=reply_to,
            ),
        )


def not_found() -> MessageError:
    """Return the error of a request that names a message which is not there."""
    return MessageError("This message does not exist any more.", code="notFound")

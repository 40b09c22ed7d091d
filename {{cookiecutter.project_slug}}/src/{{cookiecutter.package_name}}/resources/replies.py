"""Replies: texts that quote an earlier message."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from falcon_pachinko import WebSocketLike, handles_message

from ..message_fields import Quoted
from ..messages import PastMessage, SendReply
from ..records import StoredMessage
from .stored_room import StoredRoom

MAX_QUOTED_CHARACTERS = 200


class Replies(StoredRoom):
    """Handles replies."""

    @handles_message("clientSendReply", action="send", once=True, repeatable=True)
    async def send_reply(self, ws: WebSocketLike, payload: SendReply) -> None:
        """Store a reply, and send it to all clients in the room, including the sender."""
        found = await self.find(payload.message_id)
        quoted = Quoted(message_id=found.id, user=found.user_name, user_id=found.user_id)
        await self.publish_text(payload.text, quoted)

    async def with_quotes(
        self, page: list[PastMessage], stored: Sequence[StoredMessage]
    ) -> list[PastMessage]:
        """Return a page of the past with what its replies quote; deleted messages are not quoted."""
        replies = {each.id: each.reply_to for each in stored if each.reply_to is not None}
        if not replies:
            return page
        found = await self.stored.get_all(self.room, replies.values())
        originals = {each.id: each for each in found}
        return [
            msgspec.structs.replace(each, reply_to=quoted(originals[replies[each.message_id]]))
            if replies.get(each.message_id) in originals
            else each
            for each in page
        ]


def quoted(message: StoredMessage) -> Quoted:
    """Return how a message is quoted in a page of the past."""
    return Quoted(
        message_id=message.id,
        user=message.user_name,
        user_id=message.user_id,
        text=message.text[:MAX_QUOTED_CHARACTERS],
    )

"""Reactions: one emoji of a user at a message, any number of times with different ones."""

from __future__ import annotations

import unicodedata

import msgspec

from falcon_pachinko import MessageError, WebSocketLike, handles_message

from ..message_fields import Reaction
from ..messages import PastMessage, React, ServerReaction
from .stored_room import StoredRoom, not_found

# The joiner of several signs, the sign for a colourful presentation, the enclosing keycap.
JOINER, EMOJI_STYLE, KEYCAP = "\u200d", "\ufe0f", "\u20e3"
TAGS = range(0xE0020, 0xE0080)  # of the flags of regions


class Reactions(StoredRoom):
    """Handles reactions."""

    @handles_message("clientReact", action="send", per_second=5, burst=20)
    async def react(self, ws: WebSocketLike, payload: React) -> None:
        """Add a reaction or take it back, and tell all clients in the room its new number."""
        user, message_id, reaction = self.user, payload.message_id, payload.reaction
        if not is_emoji(reaction):
            raise MessageError("A reaction is an emoji.", code="invalidReaction")
        try:
            change = await self.stored.react(
                self.room, message_id, user.id, reaction, on=payload.on
            )
        except LookupError:
            raise not_found() from None
        if change is not None:
            await self.broadcast_to_room(
                self.room,
                ServerReaction(
                    message_id=message_id,
                    reaction=reaction,
                    user=user.name,
                    user_id=user.id,
                    on=payload.on,
                    count=change.count,
                    revision=change.revision,
                ),
            )

    async def with_reactions(self, page: list[PastMessage]) -> list[PastMessage]:
        """Return a page of the past with its reactions."""
        found: dict[str, list[Reaction]] = {}
        for each in await self.stored.reactions_to(
            [message.message_id for message in page], self.user.id
        ):
            reaction = Reaction(reaction=each.reaction, count=each.count, mine=each.is_mine)
            found.setdefault(each.message_id, []).append(reaction)
        return [
            msgspec.structs.replace(message, reactions=found.get(message.message_id, []))
            for message in page
        ]


def is_emoji(text: str) -> bool:
    """Return whether a text consists of an emoji's characters, of which one is a symbol."""
    is_keycap = text.endswith(KEYCAP)
    has_symbol = False
    for character in text:
        category = unicodedata.category(character)
        if category in ("So", "Sm") and not character.isascii():
            has_symbol = True
        elif not (
            character in (JOINER, EMOJI_STYLE, KEYCAP)
            or category == "Sk"
            or ord(character) in TAGS
            or (is_keycap and character in "0123456789#*")
        ):
            return False
    return has_symbol or is_keycap

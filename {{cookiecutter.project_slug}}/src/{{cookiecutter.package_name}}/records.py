"""The records of the message store and its error, which a service without a store imports too."""

from __future__ import annotations

import msgspec

from falcon_pachinko import MessageError


class StoreUnavailable(MessageError):
    """The database does not respond, or refuses; a change may have been stored all the same.

    Raised out of a handler, it is sent as ``serverError``; the cause has been logged.
    """

    def __init__(self) -> None:
        super().__init__("This cannot be done right now: try again.", code="unavailable")


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message to store; ``reply_to`` is the id of another message."""

    room: str
    user_id: str
    user_name: str
    text: str
    reply_to: str | None = None


class StoredMessage(NewMessage, frozen=True, kw_only=True):
    """A stored message.

    Attributes:
        id: See :class:`.message_ids.MessageIds`.
        sent_at: When the service has accepted it, in Unix milliseconds.
        edited_at: The last change of its text, in Unix milliseconds; ``None`` for none.
        deleted_at: Its deletion, in Unix milliseconds, after which its text is empty; ``None`` for none.
        revision: The number of its changes: edits, its deletion, reactions to it.
        existed: Whether an earlier request with the same client id and ``ref`` has stored it.
    """

    id: str
    sent_at: int
    edited_at: int | None = None
    deleted_at: int | None = None
    client_id: str | None = None
    ref: str | None = None
    revision: int = 0
    existed: bool = False

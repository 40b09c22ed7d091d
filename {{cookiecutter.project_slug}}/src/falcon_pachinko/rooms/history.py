"""The history of a room: reading it page by page, and removing messages from it."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from ..backends.base import Backend
from ..connection.connection import Connection
from ..errors import MessageError
from ..history import MAX_RETRACTED, PastMessage, Position
from ..publication import TEXT, Publication
from .recovery import is_for

MAX_PAGE = 1_000


class RoomHistories:
    """The part of the manager that reads and changes histories.

    Attributes:
        backend: The backend of the rooms.
    """

    backend: Backend

    async def history(
        self,
        room: str,
        *,
        before: Position | str | None = None,
        limit: int = 50,
        connection: Connection | None = None,
    ) -> list[PastMessage]:
        """Return the last messages in the history of a room, oldest first: a page of it.

        It has what was sent to the room as JSON and not as ephemeral, joins and leaves included, within the bounds of
        :class:`~falcon_pachinko.History`. A page with fewer messages than ``limit`` is the last one.

        Args:
            room: The room; it may be empty.
            before: The position of a message, such as its ``id`` on the wire: only those before it are returned. The
                position of an earlier numbering returns nothing, because its messages are gone.
            limit: The maximum number of messages, 1 to 1,000.
            connection: Leave out the messages that exclude this connection, an earlier one of its client, or its user.

        Raises:
            BackendUnavailable: Redis is unavailable.
            MessageError: ``before`` is a text that is not a position; the code is ``invalidPosition``.
            ValueError: ``limit`` is out of bounds.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit is {limit!r}: a page has 1 to {MAX_PAGE} messages")
        end = Position.parse(before) if isinstance(before, str) else before
        if isinstance(before, str) and end is None:
            raise MessageError("This is not the position of a message.", code="invalidPosition")
        found: list[PastMessage] = []
        while len(found) < limit:
            publications = await self.backend.past(room, end, limit - len(found))
            if not publications:
                break
            end = publications[0].position
            found[:0] = [
                PastMessage(each.position, each.published_ms, each.body)
                for each in publications
                if each.position is not None
                and each.published_ms is not None
                and each.opcode == TEXT
                and (connection is None or is_for(connection, each))
            ]
        return found

    async def retract(
        self, room: str, positions: Collection[Position], message: object
    ) -> Position | None:
        """Send a message to all members of a room, and remove earlier ones from its history.

        A client that joins or reconnects afterwards gets the message, and those that are removed no more. They are
        removed from the memory of all nodes and from Redis; clients that have them learn of it by the message. It is
        for content that must not be read any longer, such as a deleted text. Positions that are not in the history
        (any more) have no effect.

        Args:
            room: The room; it may be empty.
            positions: The positions of at most 1,000 messages, such as those that :meth:`history` returns.
            message: A :class:`~falcon_pachinko.messages.Message` or any object that JSON can represent.

        Returns:
            The position of the message; in one process ``None`` without a history.

        Raises:
            BackendUnavailable: Redis is unavailable; the message may not have arrived, and nothing may be removed.
            LeaseLost: The caller is a worker that another node has replaced.
            TypeError: JSON cannot represent the message; nothing has changed.
            ValueError: There are more than 1,000 positions.
        """
        if len(positions) > MAX_RETRACTED:
            raise ValueError(
                f"{len(positions)} positions are given: retract at most {MAX_RETRACTED} at once"
            )
        publication = Publication.to_room(message)
        retracts = tuple(str(each) for each in positions)
        publication.header = msgspec.structs.replace(publication.header, retracts=retracts)
        return await self.backend.publish_nowait(room, publication)

"""Outbound messages of a channel: those of its connection, with the name of the room."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import UNSET, UnsetType

from ..limits import DEFAULT_LIMITS
from ..messages import ENCODER, Message, ServerError, ServerJoined, ServerLeft
from ..publication import EVENT, Publication, with_fields
from .counts import Sent
from .outbox import Backlog, Outbox, OutboxGroup

REFUSED = "The room was not joined."


class ChannelOutbox(Sent):
    """An outbox that writes to that of the connection: the promises of :class:`.outbox.Outbox`.

    Args:
        carrier: The outbox of the connection.
        room: The client's name of the room.
        ref: The ``ref`` of the client's request to join.

    Attributes:
        room_field: The room as a field of a JSON object.
        leave_ref: The ``ref`` of the client's request to leave; ``None`` without such a request.
    """

    __slots__ = (
        "carrier",
        "closed",
        "confirmed",
        "leave_ref",
        "limits",
        "ref",
        "room_field",
        "used",
    )

    def __init__(self, carrier: Outbox, room: str, ref: str | UnsetType = UNSET) -> None:
        super().__init__()
        self.carrier = carrier
        self.room_field = room_field(room)
        self.ref = ref
        self.leave_ref: str | UnsetType | None = None
        self.limits = DEFAULT_LIMITS
        self.closed = self.used = False
        self.confirmed = False

    @classmethod
    def group(cls, outboxes: Iterable[ChannelOutbox]) -> ChannelGroup:
        """Make a group of outboxes of this class."""
        return ChannelGroup(outboxes)

    @property
    def backlog(self) -> Backlog:
        """The pending messages of the connection."""
        return self.carrier.backlog

    @property
    def waiting(self) -> bool:
        """Whether the server does not accept more messages for now."""
        return self.carrier.waiting

    @property
    def size_bytes(self) -> int:
        """Zero: pending messages count for the connection."""
        return 0

    def confirm(self) -> None:
        """Send the reply to the request to join: the messages of the room follow."""
        self.confirmed = True
        self._reply(ServerJoined(), self.ref)

    def write(self, publication: Publication) -> None:
        """Write a message with the name of the room; a close ends the channel, not the connection."""
        if publication.opcode == EVENT:
            self._write_close(publication.event["code"], publication.event["reason"])
        elif not self.closed:
            self.used = True
            self.sent += 1
            self.sent_bytes += publication.size_bytes
            self.carrier.write(publication.for_room(self.room_field))

    def _write_close(self, code: int, reason: str) -> None:
        """Send that the room was not joined, or that it was left."""
        if not self.confirmed:
            refusal = ServerError(code="refused", error=reason or REFUSED, close_code=code)
            self._reply(refusal, self.ref)
        if self.confirmed or self.leave_ref is not None:
            self._reply(ServerLeft(code=code, reason=reason), self.leave_ref or UNSET)

    def _reply(self, message: Message, ref: str | UnsetType) -> None:
        self.carrier.write(reply_in_room(message, ref, self.room_field))

    def close(self) -> None:
        """Accept no more messages, except a close. Idempotent."""
        self.closed = True

    async def wait_drained(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the server has accepted all messages of the connection; not at all once this is closed."""
        return self.closed or await self.carrier.wait_drained(timeout_seconds)

    def discard(self) -> None:
        """Do nothing: pending messages are those of the connection."""

    def abort(self) -> None:
        """Accept no more messages."""
        self.closed = True


class ChannelGroup:
    """The channels of one room: its messages are encoded once more for all that know it by the same name."""

    __slots__ = ("groups",)

    def __init__(self, outboxes: Iterable[ChannelOutbox]) -> None:
        by_kind: dict[tuple[bytes, type[Outbox]], list[Outbox]] = {}
        for outbox in outboxes:
            kind = (outbox.room_field, type(outbox.carrier))
            by_kind.setdefault(kind, []).append(outbox.carrier)
        self.groups: list[tuple[bytes, OutboxGroup]] = [
            (field, kind.group(carriers)) for (field, kind), carriers in by_kind.items()
        ]

    def write(self, publication: Publication, excluded: Collection[Outbox]) -> None:
        """Write a message to each channel that is not excluded."""
        for field, group in self.groups:
            carriers: Collection[Outbox] = ()
            if excluded:
                carriers = {
                    each.carrier
                    for each in excluded
                    if isinstance(each, ChannelOutbox) and each.room_field == field
                }
            group.write(publication.for_room(field), carriers)


def room_field(room: str) -> bytes:
    """Return a room as a field of a JSON object."""
    return b'"room":' + ENCODER.encode(room)


def reply_in_room(message: Message, ref: str | UnsetType, field: bytes) -> Publication:
    """Make a message with the ``ref`` of a request and the room that it is about."""
    if ref is not UNSET:
        field = b'"ref":%b,%b' % (ENCODER.encode(ref), field)
    return Publication.of_encoded(with_fields(Publication(message).data, field))

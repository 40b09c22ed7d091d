"""The operations on restrictions and tickets. Times are Unix milliseconds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...restriction_entry import UNKNOWN_REMOVAL_MS, RestrictionChange, RestrictionEntry
from ..script import NODES, RESTRICTIONS_PER_SLICE, raw, ticket_tag
from .replies import Operation, decode_names, decode_nothing, decode_text

logger = logging.getLogger(__name__)

# An operation with so many entries takes as long as a join; reading is faster.
ENTRIES_WRITTEN_PER_COST = 10
READING_COST = 4


class Restricted(NamedTuple):
    """The reply to :func:`restrict`.

    Attributes:
        identifier: The id of the message to the nodes; empty if nothing has changed.
        nodes: The live nodes that have not confirmed it; an empty name for others that may be live.
        excess: The number of entries if there are too many; otherwise 0.
    """

    identifier: str
    nodes: list[str]
    excess: int


class RestrictionPage(NamedTuple):
    """The reply to :func:`read_restrictions`: the cursor of the next part, ``0`` after the last one, and the entries."""

    cursor: str
    entries: list[RestrictionEntry]


def restrict(
    change: RestrictionChange, known: RestrictionEntry | None, clock: int, node: str | None
) -> Operation[Restricted]:
    """Change a restriction and send it to all nodes.

    Args:
        change: The change.
        known: The entry as the caller knows it, which Redis may have lost.
        clock: The caller's time.
        node: The node that calls; ``None`` for a publisher.
    """

    def decode(reply: Any) -> Restricted:
        identifier, nodes, excess = reply
        return Restricted(decode_text(identifier), decode_names(nodes), excess)

    details = (change.field, change.until, change.issued_until, change.extends)
    value = "" if known is None else known.value
    return Operation(("restrict", NODES, node, *details, value, clock, UNKNOWN_REMOVAL_MS), decode)


def merge_restrictions(entries: Sequence[RestrictionEntry], ttl: int) -> Operation[None]:
    """Store the entries that are later than those in Redis; the key lives at least for ``ttl`` milliseconds."""
    cost = 1 + len(entries) // ENTRIES_WRITTEN_PER_COST
    return Operation(("merge_restrictions", NODES, flat(entries), ttl), decode_nothing, cost=cost)


def drop_restrictions(entries: Sequence[RestrictionEntry]) -> Operation[None]:
    """Remove the entries that have not changed."""
    cost = 1 + len(entries) // ENTRIES_WRITTEN_PER_COST
    return Operation(("drop_restrictions", NODES, flat(entries)), decode_nothing, cost=cost)


def delete_restrictions() -> Operation[None]:
    """Remove all entries and the digest, to store them again."""
    return Operation(("delete_restrictions", NODES), decode_nothing, cost=READING_COST)


def read_restrictions(cursor: str) -> Operation[RestrictionPage]:
    """Read a part of the entries: about :data:`..script.RESTRICTIONS_PER_SLICE`, some of them perhaps twice."""

    def decode(reply: Any) -> RestrictionPage:
        parts, entries = iter(decode_names(reply[1])), []
        for field, value in zip(parts, parts, strict=True):
            if field != "digest":
                try:
                    entries.append(RestrictionEntry.decode(field, value))
                except ValueError as error:
                    logger.warning("Redis: restriction %r is not valid: %s", field, error)
        return RestrictionPage(decode_text(reply[0]), entries)

    return Operation(("read_restrictions", NODES, cursor), decode, cost=READING_COST)


def restrictions_digest() -> Operation[str]:
    """Return the digest of all entries, as in the reply to ``beat``."""
    return Operation(("restrictions_digest", NODES), decode_text)


def issue_ticket(ticket: str, value: str, ms: int) -> Operation[None]:
    """Store a ticket."""
    return Operation(("issue_ticket", ticket_tag(ticket), raw(value.encode()), ms), decode_nothing)


def redeem_ticket(ticket: str) -> Operation[str | None]:
    """Take a ticket; returns its value."""

    def decode(reply: Any) -> str | None:
        return decode_text(reply[0]) if reply else None

    return Operation(("redeem_ticket", ticket_tag(ticket)), decode)


def flat(entries: Sequence[RestrictionEntry]) -> list[str]:
    """Return names and values in turn."""
    return [part for entry in entries for part in (entry.field, entry.value)]


def slices(entries: Sequence[RestrictionEntry]) -> list[Sequence[RestrictionEntry]]:
    """Split entries into parts that one operation can take."""
    starts = range(0, len(entries), RESTRICTIONS_PER_SLICE)
    return [entries[start : start + RESTRICTIONS_PER_SLICE] for start in starts]

"""P2 and P7, the invariants of joins and leaves: each exactly once, and never of users that stayed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from .events import Received, Visit
from .record import MARGIN_SECONDS, RECOVERY_SECONDS, Record, Segment, Violation

# A join or leave may arrive later than it happened by the longest fault of the nodes that deliver it.
LATE_SECONDS = 10.0

Edges = dict[tuple[str, int], Received]


def edges_by_user(segments: list[Segment], kind: str) -> dict[tuple[str, str], Edges]:
    """Return the joins or leaves by room and user; each at its first delivery, by epoch and offset."""
    edges: dict[tuple[str, str], Edges] = defaultdict(dict)
    for segment in segments:
        for offset, received in segment.messages.items():
            if received.type == kind:
                about = received.payload["room"], received.payload["user"]
                key = (segment.epoch, offset)
                first = edges[about].setdefault(key, received)
                if received.at < first.at:
                    edges[about][key] = received
    return edges


def too_many_edges(record: Record, segments: list[Segment]) -> list[Violation]:
    """Find users that left or joined more often than possible.

    A user may leave when none of its pages was in the room for more than half of the grace period (a server measures it
    longer than a client), when it left its rooms, and when a node was frozen for long. The users of a node that is cut
    off are unknown, as are all users before the nodes have recovered from a data loss of Redis: then another connection of
    the same user may be taken for the last one. It may join once more than that.
    """
    visits = record.visits()
    found = []
    for kind, more in (("left", 0), ("joined", 1)):
        for (room, user), edges in sorted(edges_by_user(segments, kind).items()):
            possible, reasons = possible_leaves(record, visits[room, user])
            if len(edges) > possible + more:
                sentence = (
                    f"{user} {kind} {room} {len(edges)} times, but can have {kind} only"
                    f" {possible + more} times"
                )
                lines = [f"{name}: {received}" for name, received in sorted(edges.items())]
                found.append(Violation("I2", sentence, (*lines, *reasons)))
    return found


def edges_of_staying_users(record: Record, segments: list[Segment]) -> list[Violation]:
    """Find joins and leaves of users that were in the room all the time, on a node that was not cut off."""
    visits = record.visits()
    found = []
    for kind in ("joined", "left"):
        for (room, user), edges in sorted(edges_by_user(segments, kind).items()):
            for (epoch, offset), received in sorted(edges.items()):
                stay = next(
                    (v for v in visits[room, user] if has_stayed(record, v, received.at)), None
                )
                if stay is not None:
                    rule = "P7" if kind == "joined" else "P2"
                    sentence = f"{user}, who has stayed in {room}, {kind} it at {epoch}:{offset}"
                    found.append(Violation(rule, sentence, (str(received), str(stay))))
    return found


def has_stayed(record: Record, visit: Visit, at: float) -> bool:
    """Return whether a user must have been known to all nodes for so long that no join or leave can be late."""
    settled_at = visit.started_at + MARGIN_SECONDS + record.grace_seconds
    since = at - LATE_SECONDS
    if not (settled_at < since and at + MARGIN_SECONDS < visit.end):
        return False
    for fault in record.faults:
        is_near = fault.node in (None, visit.node)
        if is_near and fault.overlaps(visit.started_at - RECOVERY_SECONDS, settled_at):
            return False
        if fault.loses_data and fault.overlaps(visit.started_at - record.heal_seconds, settled_at):
            return False
        was_cut_off = fault.node == visit.node and fault.seconds > record.expiry_seconds / 2
        if was_cut_off and fault.overlaps(since, at):
            return False
    return True


def possible_leaves(record: Record, visits: list[Visit]) -> tuple[int, list[str]]:
    """Return how often a user can have left, and the reasons."""
    reasons = []
    until, grace_seconds = float("-inf"), 0.0
    for visit in sorted(visits):
        if float("-inf") < until < visit.started_at - grace_seconds:
            reasons.append(f"absent from {until:.2f} to {visit.started_at:.2f}")
        reasons.append(f"    on node {visit.node} from {visit.started_at:.2f} to {visit.end:.2f}")
        reasons += [
            f"{fault.kind} of node {visit.node} from {fault.started_at:.2f} to {fault.ended_at:.2f}"
            for fault in record.faults
            if fault.node == visit.node
            and fault.seconds > record.expiry_seconds / 2
            and fault.overlaps(visit.started_at, visit.end)
        ]
        reasons += [
            f"left at {visit.end:.2f} while node {other.node} was unknown"
            for other in visits
            if other.started_at <= visit.end + record.grace_seconds
            and visit.end < other.end
            and is_unknown(record, other.node, visit.end)
        ][:1]
        if visit.end > until:
            until, grace_seconds = visit.end, 0.0 if visit.left else record.grace_seconds / 2
    if visits and until < float("inf"):
        reasons.append(f"absent from {until:.2f} on")
    return sum(not reason.startswith(" ") for reason in reasons), reasons


def is_unknown(record: Record, node: int, at: float) -> bool:
    """Return whether the users of a node may have been unknown at a time or within the grace period after it."""
    return any(
        fault.started_at <= at + record.grace_seconds
        and at <= fault.ended_at + RECOVERY_SECONDS
        and (fault.loses_data or (fault.node == node and fault.seconds > record.expiry_seconds / 2))
        for fault in record.faults
    )


def wrong_members(
    present: Mapping[str, set[str]], reported: Mapping[int, Mapping[str, list[str]]]
) -> list[Violation]:
    """Find nodes with wrong lists of members.

    Args:
        present: The present users of each non-empty room.
        reported: For each node, the members of all rooms that it returned.
    """
    found = []
    for node, rooms in sorted(reported.items()):
        lines = []
        for room in sorted({*present, *rooms}):
            expected, answered = present.get(room, set()), rooms.get(room, [])
            missing = sorted(expected - set(answered))
            ghosts = sorted(set(answered) - expected)
            twice = sorted(user for user, count in Counter(answered).items() if count > 1)
            if missing or ghosts or twice:
                lines.append(f"{room}: missing {missing}, ghosts {ghosts}, twice {twice}")
        if lines:
            sentence = f"node {node} has wrong members of {len(lines)} rooms"
            found.append(Violation("I2", sentence, tuple(lines)))
    return found

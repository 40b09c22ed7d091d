"""The model test's checks of presence: P2 (a lease, ``left`` exactly once) and P7 (silent re-entry).

The text of each join and leave message names the connection with which its user came. A connection is in a
room once, so that its messages may appear once each; and once more for each time its node may have expired.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from .model import SLACK_SECONDS, Read, Received, Record, Stay


def presence_violations(record: Record) -> list[str]:
    """Return the violations of P2 and P7, except those of the lists at the end."""
    return [
        *repeated_announcements(record),
        *false_announcements(record),
        *not_alternating(record),
        *wrong_counts(record),
        *wrong_reads(record),
    ]


def announcements(record: Record) -> list[Received]:
    """Return the deliveries of joins and leaves."""
    return [each for each in record.received if each.kind != "message"]


def repeated_announcements(record: Record) -> Iterator[str]:
    """Yield joins and leaves that a node delivered too often."""
    stays = {(stay.room, stay.connection): stay for stay in record.stays}
    counts = Counter(
        (each.node, each.room, each.kind, each.user, each.name) for each in announcements(record)
    )
    for (node, room, kind, user, connection), count in counts.items():
        stay = stays[room, connection]
        allowed = 1 + record.expiries(stay)
        if count > allowed:
            rule = "P7" if kind == "joined" else "P2"
            yield (
                f"{rule}: {kind} of {user!r} ({connection}) in room {room!r} was delivered {count} times on"
                f" node {node}"
            )


def false_announcements(record: Record) -> Iterator[str]:
    """Yield joins of present users, and leaves of users that stayed."""
    stays = {(stay.room, stay.connection): stay for stay in record.stays}
    known: dict[tuple[str, str], float] = {}
    for each in announcements(record):
        stay = stays[each.room, each.name]
        others = [
            other
            for other in record.stays
            if (other.room, other.user) == (stay.room, stay.user) and other is not stay
        ]
        key = (each.room, each.user)
        if each.kind == "joined":
            was_known = known.get(key, math.inf) < stay.called
            until = each.at if stay.ended is None else min(each.at, stay.ended)
            if was_known and is_covered(record, others, stay.called, until):
                yield f"P7: {shown(each)}, who was present with another connection"
            known.setdefault(key, each.at)
        else:
            known.pop(key, None)
            # NOTE: a node without a link may deliver the end of a lease long after it.
            has_expired = record.expiries(stay) > 0
            ended = each.at if stay.ended is None else min(each.at, stay.ended)
            start = stay.called if has_expired else ended
            if is_covered(record, [stay, *others], start, each.at):
                yield f"P2: {shown(each)}, who has stayed"


def is_covered(record: Record, stays: list[Stay], start: float, end: float) -> bool:
    """Return whether one connection, whose node cannot have expired, was in the room during all of a time."""
    return any(
        stay.entered is not None
        and stay.entered < start
        and (stay.ended is None or stay.ended > end)
        and not record.expiries(stay)
        for stay in stays
    )


def shown(each: Received) -> str:
    """Return the start of a message on an announcement."""
    return f"node {each.node} delivered {each.kind} of {each.user!r} ({each.name}) in room {each.room!r}"


def not_alternating(record: Record) -> Iterator[str]:
    """Yield joins after joins and leaves after leaves of a user, unless the node has read a new list between."""
    resets = [*record.losses, *record.resyncs]
    last: dict[tuple[int, str, str], Received] = {}
    for each in announcements(record):
        key = (each.node, each.room, each.user)
        before = last.get(key)
        last[key] = each
        if before is None or before.kind != each.kind:
            continue
        since = [at for at, node, room in resets if (node, room) == key[:2] and at >= before.at]
        gaps = [
            subscription
            for subscription in record.subscriptions
            if (subscription.node, subscription.room) == key[:2]
            and (subscription.since is None or subscription.since > before.at)
        ]
        if not since and not gaps:
            rule = "P7" if each.kind == "joined" else "P2"
            yield f"{rule}: {shown(each)} twice in succession: {before.name}, {each.name}"


def wrong_counts(record: Record) -> Iterator[str]:
    """Yield users who were not announced once per stay, where no fault has touched the nodes."""
    if record.redis_failed:
        return
    disturbed = record.disturbed
    users = {(stay.room, stay.user) for stay in record.stays}
    for room, user in sorted(users):
        stays = [stay for stay in record.stays if (stay.room, stay.user) == (room, user)]
        if any(stay.node in disturbed for stay in stays):
            continue
        low, high = episodes(record, stays)
        is_present = any(stay.ended is None for stay in stays)
        for node in sorted(record.live - disturbed):
            if not is_subscribed(record, node, room, stays[0].called):
                continue
            joined, left = (
                sum(
                    (each.node, each.room, each.user, each.kind) == (node, room, user, kind)
                    for each in record.received
                )
                for kind in ("joined", "left")
            )
            if not low <= joined <= high or left != joined - is_present:
                yield (
                    f"P2: {user!r} was {low} to {high} times in room {room!r}; node {node} delivered"
                    f" {joined} joins and {left} leaves"
                )


def is_subscribed(record: Record, node: int, room: str, since: float) -> bool:
    """Return whether a node has subscribed to a room without interruption since a time."""
    return any(
        (each.node, each.room, each.until) == (node, room, None)
        and each.since is not None
        and each.since <= since
        for each in record.subscriptions
    )


def episodes(record: Record, stays: list[Stay]) -> tuple[int, int]:
    """Return how often a user has come, at least and at most: a return near the end of grace is both."""
    low = high = 0
    surely_until = maybe_until = -math.inf
    for stay in stays:
        if stay.called > maybe_until:
            low += 1
        if stay.entered is None or stay.entered > surely_until:
            high += 1
        ended = math.inf if stay.ended is None else stay.ended
        grace = record.timing.grace_seconds if stay.grace else 0.0
        surely_until = max(surely_until, ended + grace / 2)
        maybe_until = max(maybe_until, ended + grace + SLACK_SECONDS)
    return low, high


def wrong_reads(record: Record) -> Iterator[str]:
    """Yield lists, read long after the last fault, with users who cannot be there or without those who are."""
    for read in record.reads:
        if read.outage or not is_calm(record, read):
            continue
        stays = [stay for stay in record.stays if stay.room == read.room]
        users = {*read.users}
        ghosts = users - {stay.user for stay in stays if may_be_listed(record, stay, read)}
        missing = {stay.user for stay in stays if must_be_listed(record, stay, read)} - users
        if ghosts:
            yield f"P2: members({read.room!r}) on node {read.node} has {ghosts}, who have left"
        if missing:
            yield f"P2: members({read.room!r}) on node {read.node} lacks {missing}"
        if len(users) != len(read.users):
            yield f"P2: members({read.room!r}) on node {read.node} has duplicates: {read.users}"


def is_calm(record: Record, read: Read) -> bool:
    """Return whether the state must be correct again at the time of a read."""
    start = read.called - record.heal_seconds - record.timing.answer_seconds
    return not any(start <= stall <= read.returned for stall in record.stalls) and not any(
        fault.overlaps(start, read.returned) for fault in record.faults
    )


def may_be_listed(record: Record, stay: Stay, read: Read) -> bool:
    """Return whether a list may have the user of a stay."""
    tail = record.timing.grace_seconds if stay.grace else 0.0
    tail += record.heal_seconds if stay.killed else 0.0
    ended = math.inf if stay.ended is None else stay.ended
    return stay.called <= read.returned and read.called <= ended + tail + SLACK_SECONDS


def must_be_listed(record: Record, stay: Stay, read: Read) -> bool:
    """Return whether a list must have the user of a stay."""
    return (
        stay.node not in record.killed
        and stay.entered is not None
        and stay.entered + SLACK_SECONDS < read.called
        and (stay.ended is None or stay.ended > read.returned)
    )

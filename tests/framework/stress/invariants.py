"""The invariants of the records of a cluster's clients; pure functions without sockets or waiting."""

from __future__ import annotations

from .chaos_program import DISCONNECTED_CODE, ROOM_CLOSED_CODE
from .deliveries import (
    differences,
    duplicates,
    foreign_messages,
    gaps,
    lost_messages,
    rooms_of_epochs,
    unexpected_epochs,
    without_lost,
    wrong_exclusions,
)
from .edges import edges_of_staying_users, too_many_edges
from .events import Closed, Opened, Page, Received, excerpt
from .follower import Follower
from .record import MARGIN_SECONDS, Command, Record, Segment, Violation
from .views import contradictions

EXPECTED_CODES = {1000, 1001, 1005, 1006, 1012}
REFUSED_CODE = 1013


def check(record: Record) -> list[Violation]:
    """Return all violations."""
    segments: list[Segment] = []
    found: list[Violation] = []
    for page in record.pages:
        follower = Follower(page, record)
        follower.follow()
        segments += follower.segments
        found += follower.found
    rooms = rooms_of_epochs(segments)
    for page in record.pages:
        found += contradictions(page, record, rooms)
    found += differences(without_lost(record, segments))
    found += gaps(record, segments)
    found += wrong_exclusions(segments)
    found += foreign_messages(segments)
    found += duplicates(record.pages)
    found += unexpected_epochs(record, segments)
    found += too_many_edges(record, segments)
    found += edges_of_staying_users(record, segments)
    found += lost_messages(record, segments)
    found += wrong_ends(record)
    found += survivors(record)
    return found


def wrong_ends(record: Record) -> list[Violation]:
    """Find unexpected close codes and unexpected error replies."""
    found = []
    for page in record.pages:
        for index, event in enumerate(page.events):
            if isinstance(event, Closed) and not is_expected(record, page, index, event):
                sentence = f"a connection of {page.name} was closed with {event.code}"
                found.append(Violation("I0", sentence, excerpt(page, index)))
            error = (
                event.payload
                if isinstance(event, Received) and event.type == "serverError"
                else None
            )
            if error is not None and error.get("code") != "unavailable":
                sentence = f"{page.name} received the error {error}"
                found.append(Violation("I0", sentence, excerpt(page, index)))
    return found


def is_expected(record: Record, page: Page, index: int, event: Closed) -> bool:
    """Return whether a connection may have ended with a code.

    The code of a command needs one. A node refuses a handshake while it knows no restrictions, because it has
    started while Redis was unavailable.
    """
    if event.code == REFUSED_CODE:
        last = page.events[index - 1] if index else None
        return isinstance(last, Opened) and record.was_unavailable(last.node, event.at)
    if event.code not in (DISCONNECTED_CODE, ROOM_CLOSED_CODE):
        return event.code in EXPECTED_CODES
    return any(
        concerns(command, page)
        and command.started_at <= event.at
        and (DISCONNECTED_CODE if command.user else ROOM_CLOSED_CODE) == event.code
        for command in record.commands
    )


def concerns(command: Command, page: Page) -> bool:
    """Return whether a command closes the connections of a page."""
    return command.user == page.user if command.user else command.room in page.rooms


def survivors(record: Record) -> list[Violation]:
    """Find connections that are open although a command had to close them.

    A command that is done has closed all connections of live nodes that were open when it was sent. A node that has
    not confirmed it, or whose lease has expired, closes them once it has recovered. One that was refused need not have been sent.
    """
    found = []
    for command in record.commands:
        if command.outcome == "refused":
            continue
        for page in record.pages:
            if not concerns(command, page):
                continue
            for visit in page.visits():
                by = command.ended_at + MARGIN_SECONDS
                is_live = not record.may_have_expired(visit.node, command.started_at)
                if command.outcome != "done" or not is_live:
                    by = record.recovered_at(visit.node, command.ended_at) + record.heal_seconds
                is_older = visit.started_at < command.started_at - MARGIN_SECONDS
                if is_older and visit.end > by and not visit.left:
                    sentence = f"{page.name} is open on node {visit.node} after {command}"
                    found.append(Violation("P6", sentence, (str(visit),)))
    return found

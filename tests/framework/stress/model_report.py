"""The record of a run of the model test as text."""

from __future__ import annotations

from collections.abc import Iterator

from .model import Record
from .schedule import Step


def timeline(record: Record, steps: list[tuple[float, Step]]) -> list[str]:
    """Return the events, in the order of time, one line each."""
    events = [*((at, f"step {step!r}") for at, step in steps), *events_of(record)]
    if not events:
        return []
    events.sort(key=lambda event: event[0])
    start = events[0][0]
    return [f"{at - start:7.3f} {text}" for at, text in events]


def events_of(record: Record) -> Iterator[tuple[float, str]]:
    """Yield the events of a record with their times."""
    for stay in record.stays:
        if stay.entered is not None:
            yield (
                stay.entered,
                f"node {stay.node}: {stay.connection} of {stay.user} has entered {stay.room}",
            )
        if stay.ended is not None:
            yield (
                stay.ended,
                f"node {stay.node}: {stay.connection} of {stay.user} leaves {stay.room}",
            )
    for sent in record.sent.values():
        outcome = (
            "raised"
            if sent.returned is None
            else f"returned after {sent.returned - sent.called:.3f} s"
        )
        yield (
            sent.called,
            f"node {sent.node}: publish {sent.name} to {sent.room or 'all'}: {outcome}",
        )
    for each in record.received:
        yield (
            each.at,
            f"node {each.node}: {each.room} {each.position or ''} {each.kind} {each.user} {each.name}",
        )
    for at, node, room in record.losses:
        yield at, f"node {node}: on_history_lost({room!r})"
    for at, node, room in record.resyncs:
        yield at, f"node {node}: on_resync({room!r})"
    for read in record.reads:
        yield read.returned, f"node {read.node}: members({read.room!r}) are {read.users}"
    for at in record.stalls:
        yield at, "the event loop was stalled"

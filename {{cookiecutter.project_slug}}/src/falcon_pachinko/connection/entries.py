"""The entries of a table of handlers: a message type's handler and the number of its messages."""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeVar

from ..errors import InvalidPayload
from ..messages import Message
from ..support.counters import Counters, Histogram, TypeCounts

TableT = TypeVar("TableT")
Handler = Callable[..., Awaitable[Any]]

# The types of messages that have none that is declared.
UNKNOWN, INVALID, BINARY = "unknown", "invalid", "binary"


class Entry:
    """What a table of handlers has for a message type.

    Attributes:
        handler: Handles the messages.
        replies: The classes of its replies.
        number: The number of messages since the table was made.
    """

    __slots__ = ("handler", "number", "replies")

    def __init__(self, handler: Handler, replies: tuple[type[Message], ...]) -> None:
        self.handler = handler
        self.replies = replies
        self.number = 0


def counted_table(table: TableT, counters: Counters) -> TableT:
    """Return a copy of a table of handlers (:class:`..handlers.HandlerTable`) with entries of its own.

    The types are those of the table, ``invalid`` for a declared type whose payload is not valid, ``unknown`` for
    other texts, and ``binary``: a client cannot add one. The first message of each type is timed, and so is the next one
    after each call of the functions in ``counters.samplers``.
    """
    counted: Any = copy.copy(table)
    counted.entries = {
        kind: Entry(entry.handler, entry.replies) for kind, entry in counted.entries.items()
    }
    for envelope, entry in counted.entries.items():
        counts = counters.types[envelope.__struct_config__.tag]
        counts.entries.append(entry)
        sample_next = sampler(entry, counts.handling)
        sample_next()
        counters.samplers.append(sample_next)
    counted.binary = counted_binary(counted.binary or on_unhandled, counters.types[BINARY])
    counted.check_payload = counted_check(counted.check_payload, counters)
    result: TableT = counted
    return result


def sampler(entry: Entry, durations: Histogram) -> Callable[[], None]:
    """Return a function that has the next message of a type timed."""
    handler = entry.handler

    @functools.wraps(handler)
    async def timed(resource: Any, ws: Any, payload: Any) -> Any:
        # PERF: the handler itself takes its place again, so that other messages pay nothing for the sample.
        entry.handler = handler
        started = perf_counter()
        try:
            return await handler(resource, ws, payload)
        finally:
            durations.observe(perf_counter() - started)

    def sample_next() -> None:
        entry.handler = timed

    return sample_next


def counted_binary(handler: Handler, counts: TypeCounts) -> Handler:
    """Return a handler of binary messages that counts and times them."""

    @functools.wraps(handler)
    async def timed(resource: Any, ws: Any, data: bytes) -> None:
        counts.others += 1
        started = perf_counter()
        try:
            await handler(resource, ws, data)
        finally:
            counts.handling.observe(perf_counter() - started)

    return timed


async def on_unhandled(resource: Any, ws: Any, data: bytes) -> None:
    """Handle a binary message for which the resource has no handler."""
    await resource.on_unhandled(ws, data)


def counted_check(
    check: Callable[[str, Exception], None], counters: Counters
) -> Callable[[str, Exception], None]:
    """Return a check of a text that is not valid, which counts it."""

    def check_payload(text: str, error: Exception) -> None:
        try:
            check(text, error)
        except InvalidPayload:
            counters.types[INVALID].others += 1
            raise
        counters.types[UNKNOWN].others += 1

    return check_payload

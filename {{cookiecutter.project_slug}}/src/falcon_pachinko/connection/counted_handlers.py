"""The handlers of a table, composed with the counts of their messages."""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeVar

from ..errors import InvalidPayload
from ..support.counters import Counters, TypeCounts

TableT = TypeVar("TableT")
Handler = Callable[..., Awaitable[Any]]

# PERF: one of 64 messages of a type is timed, the first one included. Two readings of the clock and a bucket
#   for each message would cost 0.3 µs, of 7 µs for a message to a room.
SAMPLE = 64

# The types of messages that have none that is declared.
UNKNOWN, INVALID, BINARY = "unknown", "invalid", "binary"


def counted_table(table: TableT, counters: Counters) -> TableT:
    """Return a copy of a table of handlers (:class:`..handlers.HandlerTable`) that counts the messages.

    The types are those of the table, ``invalid`` for a declared type whose payload is not valid, ``unknown`` for
    other texts, and ``binary``: a client cannot add one.
    """
    counted: Any = copy.copy(table)
    counted.envelopes = {
        envelope: counted_handler(handler, counters.types[envelope.__struct_config__.tag])
        for envelope, handler in counted.envelopes.items()
    }
    counted.binary = counted_handler(counted.binary or on_unhandled, counters.types[BINARY])
    counted.check_payload = counted_check(counted.check_payload, counters)
    result: TableT = counted
    return result


def counted_handler(handler: Handler, counts: TypeCounts) -> Handler:
    """Return a handler that counts its messages, and times a sample of them."""
    # The messages until the next one that is timed, and the number of timed ones.
    left, samples = 1, 0

    @functools.wraps(handler)
    async def timed(resource: Any, ws: Any, payload: Any) -> Any:
        started = perf_counter()
        try:
            return await handler(resource, ws, payload)
        finally:
            counts.handling.observe(perf_counter() - started)

    # PERF: a plain function with a variable of its own: a coroutine around that of the handler, and the attribute of
    #   an object, would cost more.
    def call(resource: Any, ws: Any, payload: Any) -> Awaitable[Any]:
        nonlocal left, samples
        left -= 1
        if left:
            return handler(resource, ws, payload)
        left, samples = SAMPLE, samples + 1
        return timed(resource, ws, payload)

    counts.handled.append(lambda: samples * SAMPLE - left + 1)
    return call


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
            counters.types[INVALID].unhandled += 1
            raise
        counters.types[UNKNOWN].unhandled += 1

    return check_payload

"""A counted handler keeps its result and its exceptions, and is timed for a sample of the messages."""

import inspect
from typing import Any

import pytest

from falcon_pachinko import MessageError
from falcon_pachinko.connection.counted_handlers import SAMPLE, counted_handler, counted_table
from falcon_pachinko.handlers import HandlerTable
from falcon_pachinko.support.counters import Counters, TypeCounts

from ..support.counted import Hall


async def handler(resource: Any, ws: Any, payload: Any) -> Any:
    if payload == "fail":
        raise MessageError("no")
    return payload


async def test_results_and_exceptions_are_those_of_the_handler() -> None:
    counts = TypeCounts()
    call = counted_handler(handler, counts)
    for number in range(SAMPLE + 1):  # timed and not
        assert await call(None, None, number) == number
    assert counts.messages == SAMPLE + 1
    assert sum(counts.handling.buckets) == 2
    for _ in range(SAMPLE):
        with pytest.raises(MessageError):
            await call(None, None, "fail")
    assert sum(counts.handling.buckets) == 3


async def test_a_handler_that_is_cancelled_has_its_own_name_in_the_log() -> None:
    call = counted_handler(handler, TypeCounts())
    coroutine = call(None, None, None)
    assert inspect.iscoroutine(coroutine)
    assert coroutine.__qualname__ == "handler"
    await coroutine


def test_the_table_of_a_class_stays_as_it_is() -> None:
    table, counters = HandlerTable.of(Hall), Counters()
    before = dict(table.envelopes)
    counted = counted_table(table, counters)
    assert counted is not table
    assert counted.decoder is table.decoder
    assert table.envelopes == before
    assert table.binary is None
    assert counters.types.keys() == {
        "binary", "clientPing", "clientReply", "echo", "leave", "say", "whisper",
    }  # fmt: skip

"""An entry counts its messages; a sampled handler keeps its result and its exceptions."""

import inspect
from typing import Any

import pytest

from falcon_pachinko import MessageError
from falcon_pachinko.connection.entries import Entry, counted_binary, counted_table, sampler
from falcon_pachinko.handlers import HandlerTable
from falcon_pachinko.support.counters import Counters, Histogram, TypeCounts

from ..support.counted import Hall


async def handler(resource: Any, ws: Any, payload: Any) -> Any:
    if payload == "fail":
        raise MessageError("no")
    return payload


async def test_the_next_message_is_timed_and_no_other() -> None:
    entry, durations = Entry(handler, ()), Histogram()
    sample_next = sampler(entry, durations)
    for number in range(2):
        sample_next()
        for payload in range(3):
            assert await entry.handler(None, None, payload) == payload
        assert sum(durations.buckets) == number + 1
    assert entry.handler is handler


async def test_a_handler_that_fails_is_timed_and_its_exception_raised() -> None:
    entry, durations = Entry(handler, ()), Histogram()
    sampler(entry, durations)()
    with pytest.raises(MessageError):
        await entry.handler(None, None, "fail")
    assert sum(durations.buckets) == 1
    assert entry.handler is handler


async def test_a_sampled_handler_that_is_cancelled_has_its_own_name_in_the_log() -> None:
    entry = Entry(handler, ())
    sampler(entry, Histogram())()
    coroutine = entry.handler(None, None, None)
    assert inspect.iscoroutine(coroutine)
    assert coroutine.__qualname__ == "handler"
    await coroutine


async def test_each_binary_message_is_counted_and_timed() -> None:
    counts = TypeCounts()
    call = counted_binary(handler, counts)
    await call(None, None, b"data")
    with pytest.raises(MessageError):
        await call(None, None, "fail")
    assert counts.messages == sum(counts.handling.buckets) == 2


def test_the_table_of_a_class_stays_as_it_is() -> None:
    table, counters = HandlerTable.of(Hall), Counters()
    before = {kind: entry.handler for kind, entry in table.entries.items()}
    counted = counted_table(table, counters)
    assert counted is not table
    assert counted.decoder is table.decoder
    for each in counted.entries.values():
        each.number += 1
    assert {kind: entry.handler for kind, entry in table.entries.items()} == before
    assert not any(each.number for each in table.entries.values())
    assert table.binary is None
    assert {kind: counts.messages for kind, counts in counters.types.items()} == {
        "binary": 0, "clientPing": 1, "clientReply": 1, "echo": 1, "leave": 1, "say": 1, "whisper": 1,
    }  # fmt: skip

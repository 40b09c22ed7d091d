"""The state of a room in memory, and the handle of an operation that has ended."""

import asyncio

from falcon_pachinko.backends.memory_room import DONE, MemoryRoom


async def test_the_result_of_an_operation_that_has_ended_is_available_at_once() -> None:
    passed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(passed.set_result, None)
    await DONE
    assert not passed.done(), "awaiting it took an iteration of the event loop"


def test_each_room_numbers_its_messages_in_an_epoch_of_its_own() -> None:
    first, second = MemoryRoom(), MemoryRoom()
    assert first.epoch != second.epoch
    assert (first.offset, first.subscriptions, first.buffer) == (0, 0, None)

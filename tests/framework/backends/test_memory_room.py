"""The state of a room in memory, and results that are available at once."""

import asyncio

from falcon_pachinko.backends.memory_room import DONE, ONE_NODE, MemoryRoom


async def test_results_are_available_at_once() -> None:
    passed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(passed.set_result, None)
    await DONE
    assert await ONE_NODE == 1
    assert not passed.done(), "awaiting them took an iteration of the event loop"


def test_each_room_numbers_its_messages_in_an_epoch_of_its_own() -> None:
    first, second = MemoryRoom(), MemoryRoom()
    assert first.epoch != second.epoch
    assert (first.offset, first.subscriptions, first.buffer) == (0, 0, None)

"""Those who come at once begin one after the other, and keep nobody waiting for all of them."""

import asyncio
from itertools import pairwise

from falcon_pachinko.uvicorn import Newcomers


async def test_who_comes_alone_does_not_wait() -> None:
    newcomers = Newcomers(asyncio.get_running_loop())
    for _ in range(3):
        waiting = newcomers.wait_turn()
        try:
            waiting.send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("it waits")
        await asyncio.sleep(0)


async def test_one_begins_in_each_turn_in_the_order_in_which_they_came() -> None:
    newcomers = Newcomers(asyncio.get_running_loop())
    begun: list[int] = []

    async def come(number: int) -> None:
        await newcomers.wait_turn()
        begun.append(number)

    coming = [asyncio.create_task(come(number)) for number in range(5)]
    seen = []
    async with asyncio.timeout(5):
        while len(begun) < 5:
            await asyncio.sleep(0)
            seen.append(len(begun))
    assert begun == list(range(5))
    assert all(later - earlier <= 1 for earlier, later in pairwise(seen))
    await asyncio.gather(*coming)


async def test_who_gives_up_takes_nobody_s_turn() -> None:
    newcomers = Newcomers(asyncio.get_running_loop())
    begun: list[int] = []

    async def come(number: int) -> None:
        await newcomers.wait_turn()
        begun.append(number)

    coming = [asyncio.create_task(come(number)) for number in range(4)]
    await asyncio.sleep(0)
    coming[2].cancel()
    await asyncio.gather(*coming, return_exceptions=True)
    assert begun == [0, 1, 3]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert newcomers.taken is False

"""The sweep: every planned call takes place, with one timer."""

import asyncio

import pytest

from falcon_pachinko.backends.sweep import NAMES_PER_SWEEP, ExpirySweep

from ..support.backends import wait_until


async def test_calls_are_made_in_the_order_of_their_times() -> None:
    now = asyncio.get_running_loop().time()
    called: list[tuple[float, str]] = []
    sweep = ExpirySweep(lambda at, name, _: called.append((at, name)))
    planned = [(now + 0.02, "b"), (now + 0.01, "a"), (now + 0.02, "c")]
    for at, name in planned:
        sweep.plan(at, name)
    await wait_until(lambda: len(called) == 3)
    assert called == sorted(planned)


async def test_a_call_may_plan_the_next_one() -> None:
    loop = asyncio.get_running_loop()
    called: list[float] = []

    def on_due(at: float, name: str, now: float) -> None:
        called.append(at)
        if len(called) == 1:
            sweep.plan(now + 0.01, name)

    sweep = ExpirySweep(on_due)
    first = loop.time()
    sweep.plan(first, "name")
    await wait_until(lambda: len(called) == 2)
    assert sweep.timer is None
    assert called[1] > called[0] == first


async def test_more_names_than_one_sweep_takes_are_all_called() -> None:
    now = asyncio.get_running_loop().time()
    called: list[str] = []
    sweep = ExpirySweep(lambda at, name, _: called.append(name))
    for number in range(2 * NAMES_PER_SWEEP + 1):
        sweep.plan(now, str(number))
    await wait_until(lambda: len(called) == 2 * NAMES_PER_SWEEP + 1)


async def test_a_call_that_fails_is_logged_and_prevents_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = asyncio.get_running_loop().time()
    called: list[str] = []

    def on_due(at: float, name: str, now: float) -> None:
        called.append(name)
        if name == "fails":
            raise ZeroDivisionError

    sweep = ExpirySweep(on_due)
    for name in ("fails", "same sweep"):
        sweep.plan(now, name)
    await wait_until(lambda: "same sweep" in called)
    sweep.plan(now, "next sweep")
    await wait_until(lambda: "next sweep" in called)
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.getMessage() == "the work planned for 'fails' failed"


async def test_a_cancelled_sweep_calls_nothing() -> None:
    called: list[str] = []
    sweep = ExpirySweep(lambda at, name, _: called.append(name))
    sweep.plan(asyncio.get_running_loop().time() + 0.01, "name")
    sweep.cancel()
    await asyncio.sleep(0.05)
    assert called == []

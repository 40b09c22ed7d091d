"""The contract of leases, verified for memory and for Redis or Valkey, also as a cluster, with two nodes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator

import pytest

from falcon_pachinko.backends.lease import CURRENT_LEASE, Lease
from falcon_pachinko.errors import LeaseLost

from ..support.backends import (
    HISTORY,
    TIMING,
    RecordingNode,
    announced,
    text,
    wait_for_result,
    wait_until,
)

pytestmark = pytest.mark.redis

SECONDS = 0.3


async def acquired(node: RecordingNode, name: str = "work") -> Lease:
    """Acquire a lease as soon as it is free."""
    lease: Lease | float = 0.0

    async def acquire() -> bool:
        nonlocal lease
        lease = await node.backend.acquire(name)
        return isinstance(lease, Lease)

    await wait_for_result(acquire, True)
    assert isinstance(lease, Lease)
    return lease


@contextlib.contextmanager
def working_with(lease: Lease) -> Iterator[None]:
    """Run a block as the worker that holds a lease."""
    reset = CURRENT_LEASE.set(lease)
    try:
        yield
    finally:
        CURRENT_LEASE.reset(reset)


async def publish_from(node: RecordingNode, lease: Lease) -> None:
    """Publish to a room and to all connections as a worker; each is delivered or raises LeaseLost."""
    with working_with(lease):
        await node.backend.publish_nowait("room", text("worker"))
        await node.backend.publish_direct(text("worker"))


async def raises_lease_lost(call: Awaitable[object]) -> bool:
    try:
        await call
    except LeaseLost:
        return True
    return False


async def test_a_lease_has_one_holder_and_is_passed_on_with_a_higher_token(
    a: RecordingNode, b: RecordingNode
) -> None:
    lease = await acquired(a)
    retry_seconds = await b.backend.acquire("work")
    assert isinstance(retry_seconds, float)
    assert 0 < retry_seconds <= b.backend.timing.expiry_seconds
    assert isinstance(await b.backend.acquire("other work"), Lease)
    assert await a.backend.renew(lease)
    await a.backend.release(lease)
    assert (await acquired(b)).token > lease.token
    assert not await a.backend.renew(lease)


async def test_the_holder_of_a_lease_cannot_acquire_it_twice(a: RecordingNode) -> None:
    lease = await acquired(a)
    assert isinstance(await a.backend.acquire("work"), float)
    assert await a.backend.renew(lease)


async def test_a_released_lease_is_not_renewed_and_its_second_release_changes_nothing(
    a: RecordingNode, b: RecordingNode
) -> None:
    lease = await acquired(a)
    await a.backend.release(lease)
    assert not await a.backend.renew(lease)
    other = await acquired(b)
    await a.backend.release(lease)
    assert await b.backend.renew(other)


async def test_publications_with_a_released_lease_are_refused_at_once(
    a: RecordingNode,
) -> None:
    await a.backend.subscribe("room", HISTORY)
    lease = await acquired(a)
    await publish_from(a, lease)
    await wait_until(lambda: a.texts("room") == ["worker"])
    await wait_until(lambda: len(a.direct) == 1)
    await a.backend.release(lease)
    with working_with(lease):
        with pytest.raises(LeaseLost):
            await a.backend.publish_nowait("room", text("late"))
        with pytest.raises(LeaseLost):
            await a.backend.publish_direct(text("late"))
    await a.backend.publish_nowait("room", text("marker"))
    await wait_until(lambda: a.got_last("room", "marker"))
    assert a.texts("room") == ["worker", "marker"]
    assert len(a.direct) == 1


async def test_publications_with_a_lost_lease_are_refused_in_every_room(
    url: str, a: RecordingNode, b: RecordingNode
) -> None:
    if not url:
        pytest.skip("a lease in memory is not lost")
    for room in ("room", "other"):
        await a.backend.subscribe(room, None)
    lease = await acquired(a)
    lease.expires += 60  # as if this clock were slow
    successor = await acquired(b)
    with working_with(successor):
        await b.backend.publish_nowait("room", text("successor"))
    with working_with(lease):
        with pytest.raises(LeaseLost):
            await a.backend.publish_nowait("room", text("late"))
        with pytest.raises(LeaseLost):
            await a.backend.publish_nowait("other", text("late"))


async def test_publications_after_a_refused_renewal_are_refused(
    url: str, a: RecordingNode, b: RecordingNode
) -> None:
    if not url:
        pytest.skip("a lease in memory is not lost")
    await a.backend.subscribe("room", None)
    lease = await acquired(a)
    lease.expires += 60  # as if this clock were slow
    await acquired(b)
    assert not await a.backend.renew(lease)
    with working_with(lease), pytest.raises(LeaseLost):
        await a.backend.publish_nowait("room", text("late"))


async def test_the_end_of_a_lease_does_not_affect_presence(a: RecordingNode) -> None:
    await a.backend.subscribe("room", None)
    lease = await acquired(a)
    with working_with(lease):
        await a.backend.enter_nowait("room", announced("c1", "alice"))
        await a.backend.leave_nowait("room", announced("c1", "alice"), grace=True)
    await a.backend.release(lease)
    await wait_until(lambda: a.texts("room") == ["alice joined", "alice left"])


# Schedules.


async def next_tick(node: RecordingNode, lease: Lease, seconds: float = SECONDS) -> float:
    """Wait for a tick while the lease is renewed; return its time on the event loop's clock."""
    async with asyncio.timeout(15):
        while (wait_seconds := await node.backend.tick(lease, "", seconds)) > 0:
            assert wait_seconds <= seconds + 1e-9  # the difference of two times
            await asyncio.sleep(min(wait_seconds, TIMING.expiry_seconds / 3))
            assert await node.backend.renew(lease)
    return asyncio.get_running_loop().time()


async def test_a_schedule_ticks_at_a_fixed_rate_after_one_interval(a: RecordingNode) -> None:
    lease = await acquired(a)
    start = asyncio.get_running_loop().time()
    for number in range(1, 4):
        late_seconds = await next_tick(a, lease) - start - number * SECONDS
        assert -0.01 < late_seconds < SECONDS


async def test_a_successor_takes_over_the_schedule(a: RecordingNode, b: RecordingNode) -> None:
    lease = await acquired(a)
    first_tick = await next_tick(a, lease, 1.0)
    await asyncio.sleep(0.3)
    await a.backend.release(lease)
    elapsed_seconds = await next_tick(b, await acquired(b), 1.0) - first_tick
    assert 0.9 < elapsed_seconds < 1.3


async def test_missed_ticks_are_made_up_for_by_one(a: RecordingNode, b: RecordingNode) -> None:
    lease = await acquired(a)
    assert await a.backend.tick(lease, "", SECONDS) == pytest.approx(SECONDS, abs=0.05)
    await a.backend.release(lease)
    await asyncio.sleep(2.5 * SECONDS)
    lease = await acquired(b)
    assert await b.backend.tick(lease, "", SECONDS) == 0
    wait_seconds = await b.backend.tick(lease, "", SECONDS)
    assert 0 < wait_seconds <= 0.6 * SECONDS  # the rate is still that of the first holder


async def test_schedules_of_other_names_are_separate(a: RecordingNode) -> None:
    lease, other = await acquired(a), await acquired(a, "other work")
    assert await a.backend.tick(lease, "", 60.0) == pytest.approx(60.0, abs=1)
    await asyncio.sleep(0.3)
    assert await a.backend.tick(lease, "fast", 60.0) > 59.75
    assert await a.backend.tick(other, "", 60.0) > 59.75
    assert await a.backend.tick(lease, "", 60.0) < 59.75


async def test_a_changed_interval_continues_from_the_last_tick(a: RecordingNode) -> None:
    lease = await acquired(a)
    assert await a.backend.tick(lease, "", 60.0) > 59
    await a.backend.release(lease)
    await asyncio.sleep(SECONDS)
    lease = await acquired(a)
    assert await a.backend.tick(lease, "", SECONDS) == 0


async def test_without_the_lease_nothing_ticks(a: RecordingNode, b: RecordingNode) -> None:
    lease = await acquired(a)
    await a.backend.tick(lease, "", SECONDS)
    await a.backend.release(lease)
    await acquired(b)
    await asyncio.sleep(1.5 * SECONDS)
    assert await raises_lease_lost(a.backend.tick(lease, "", SECONDS))

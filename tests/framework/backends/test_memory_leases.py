"""The leases of a single process: held until their release, with schedules that outlive their holders."""

import pytest

from falcon_pachinko.backends.lease import Lease
from falcon_pachinko.backends.memory_leases import MemoryLeases
from falcon_pachinko.errors import LeaseLost

from ..support.backends import wait_for_result

RETRY_SECONDS = 3.5
SECONDS = 0.2


@pytest.fixture
def leases() -> MemoryLeases:
    return MemoryLeases(RETRY_SECONDS)


async def acquired(leases: MemoryLeases) -> Lease:
    """Acquire a lease that is free."""
    lease = await leases.acquire("work")
    assert isinstance(lease, Lease)
    return lease


async def test_an_attempt_for_a_held_lease_is_repeated_after_the_given_time(
    leases: MemoryLeases,
) -> None:
    await acquired(leases)
    assert await leases.acquire("work") == RETRY_SECONDS
    assert isinstance(await leases.acquire("other work"), Lease)


async def test_only_the_present_holder_releases_a_lease(leases: MemoryLeases) -> None:
    first = await acquired(leases)
    await leases.release(first)
    second = await acquired(leases)
    assert second.token > first.token
    await leases.release(first)
    assert await leases.renew(second)
    assert not await leases.renew(first)


async def test_the_next_holder_continues_the_schedule(leases: MemoryLeases) -> None:
    first = await acquired(leases)
    wait_seconds = await leases.tick(first, "cleanup", SECONDS)
    assert wait_seconds == pytest.approx(SECONDS)
    await leases.release(first)
    with pytest.raises(LeaseLost):
        await leases.tick(first, "cleanup", SECONDS)
    second = await acquired(leases)
    assert await leases.tick(second, "other", 2 * SECONDS) == pytest.approx(2 * SECONDS)
    assert await leases.tick(second, "cleanup", SECONDS) < wait_seconds
    await wait_for_result(lambda: leases.tick(second, "cleanup", SECONDS), 0.0)

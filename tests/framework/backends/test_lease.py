"""The lease of a worker; the contract of backends has how it is acquired and kept."""

import asyncio

import pytest

from falcon_pachinko.backends.lease import CURRENT_LEASE, Lease, check_lease
from falcon_pachinko.errors import LeaseLost


async def test_an_expired_or_revoked_lease_is_lost() -> None:
    now = asyncio.get_running_loop().time()
    check_lease(None)
    lease = Lease("announce", 1, now + 60)
    check_lease(lease)
    lease.revoke()
    for lost in (lease, Lease("announce", 1, now)):
        with pytest.raises(LeaseLost, match="the lease of 'announce' has expired or has been lost"):
            check_lease(lost)


async def test_a_lease_is_held_in_the_context_of_its_worker_only() -> None:
    lease = Lease("announce", 1, 0.0)

    async def work() -> Lease | None:
        CURRENT_LEASE.set(lease)
        return await asyncio.create_task(read())

    async def read() -> Lease | None:
        return CURRENT_LEASE.get()

    assert await asyncio.create_task(work()) is lease
    assert CURRENT_LEASE.get() is None

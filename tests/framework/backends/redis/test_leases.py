"""Leases over Redis; the contract of backends has the rest."""

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.base import Lease

from ...support.backends import RecordingNode, disconnected

pytestmark = pytest.mark.redis


async def test_a_lease_can_neither_be_acquired_nor_renewed_during_an_outage(
    a: RecordingNode,
) -> None:
    lease = await a.backend.acquire("worker")
    assert isinstance(lease, Lease)
    expires = lease.expires
    async with disconnected(a):
        with pytest.raises(BackendUnavailable):
            await a.backend.acquire("other")
        with pytest.raises(BackendUnavailable):
            await a.backend.renew(lease)
        assert lease.expires == expires
    assert await a.backend.renew(lease)
    assert lease.expires > expires

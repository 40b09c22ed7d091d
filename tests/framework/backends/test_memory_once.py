"""The requests of a single process that are handled once: the bound of all of them."""

import asyncio

from falcon_pachinko.backends.memory_once import (
    CLIENT_OVERHEAD_BYTES,
    REQUEST_OVERHEAD_BYTES,
    MemoryOnce,
)
from falcon_pachinko.backends.once import Claim, ClaimState

from ..support.once import NEW, run_of

ONE_BYTES = CLIENT_OVERHEAD_BYTES + REQUEST_OVERHEAD_BYTES + len("ref")


async def test_above_the_bound_the_least_recently_used_clients_are_dropped() -> None:
    requests = MemoryOnce(max_bytes=2 * ONE_BYTES + len("reply"))
    clients = ["a" * 32, "b" * 32, "c" * 32]
    for number, client in enumerate(clients):
        run = run_of("ref", user=f"user{number}" if number else None, client=client)
        assert await requests.claim_request(run, repeatable=False) == NEW
        requests.finish_request(run, b"reply" if number == 2 else b"")
    assert list(requests.once_clients) == [("user1", "b" * 32), ("user2", "c" * 32)]
    assert list(requests.once_users) == ["user1", "user2"]
    assert requests.once_bytes == 2 * ONE_BYTES + len("reply")
    again = run_of("ref", user=None, client=clients[0])
    assert await requests.claim_request(again, repeatable=False) == NEW


async def test_expired_requests_are_dropped_with_the_next_one() -> None:
    requests = MemoryOnce()
    for number in range(10):
        run = run_of("ref", client=f"{number:032x}", user=f"user{number % 3}", seconds=0.01)
        await requests.claim_request(run, repeatable=False)
        requests.release_request(run, repeatable=number % 2 == 0)
    await asyncio.sleep(0.02)
    run = run_of("last", user=None)
    assert await requests.claim_request(run, repeatable=False) == NEW
    assert (len(requests.once_clients), requests.once_users) == (1, {})
    requests.finish_request(run, b"{}")
    expected = Claim(ClaimState.DONE, b"{}")
    assert await requests.claim_request(run, repeatable=False) == expected
    assert requests.once_bytes == ONE_BYTES + len("last{}") - len("ref")

"""Counts of each user's connections: without an override, the process's own count decides."""

from typing import Any

import pytest

from falcon_pachinko import Connection
from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.user_counts import UserCounts
from falcon_pachinko.rooms.users import UserIndex


@pytest.mark.parametrize("counts", [UserCounts(), MemoryBackend()], ids=["default", "memory"])
def test_a_place_is_granted_at_once_above_any_bound(counts: UserCounts) -> None:
    assert [counts.reserve_user_nowait("alice", 1) for _ in range(3)] == [None] * 3
    for _ in range(4):
        counts.release_user("alice")
    assert counts.reserve_user_nowait("alice", 1) is None


async def unused(event: Any = None) -> Any:
    raise AssertionError


def connection_of(user: str) -> Connection:
    connection = Connection(unused, unused)
    connection.user = user
    return connection


async def test_the_count_of_the_process_is_the_bound() -> None:
    index = UserIndex(1, UserCounts())
    first, second = connection_of("alice"), connection_of("alice")
    assert index.reserve(first)
    assert await index.wait_reserved(first)
    assert not index.reserve(second)
    index.add(first)
    index.remove(first)
    assert index.reserve(second)
    assert await index.wait_reserved(second)

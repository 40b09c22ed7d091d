"""The index of users, checked against a plain model."""

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko import Connection
from falcon_pachinko.backends.user_counts import UserCounts
from falcon_pachinko.rooms.users import UserIndex


async def receive() -> dict[str, Any]:
    raise AssertionError


async def send(event: Any) -> None:
    raise AssertionError


def connection_of(user: str | None) -> Connection:
    connection = Connection(receive, send)
    connection.user = user
    return connection


@given(st.lists(st.tuples(st.sampled_from(["alice", "bob", None]), st.booleans()), max_size=20))
def test_the_index_has_the_connections_of_each_user(steps: list[tuple[str | None, bool]]) -> None:
    index, model = UserIndex(), defaultdict[str | None, list[Connection]](list)
    for user, removes in steps:
        if removes and model[user]:
            index.remove(model[user].pop(0))
        else:
            connection = connection_of(user)
            index.add(connection)
            model[user].append(connection)
        for name in ("alice", "bob"):
            assert index.connections_of(name) == tuple(model[name])
    assert index.connections.keys() == {name for name in ("alice", "bob") if model[name]}


def test_the_user_counts_as_it_was_at_the_accept() -> None:
    index, connection = UserIndex(), connection_of("alice")
    index.add(connection)
    connection.user = "mallory"
    assert index.connections_of("alice") == (connection,)
    index.remove(connection)
    assert index.connections_of("alice") == ()


def test_reserved_connections_count_until_they_are_removed() -> None:
    index = UserIndex(max_connections=2)
    first, second, third = (connection_of("alice") for _ in range(3))
    assert index.reserve(first)
    assert index.reserve(second)
    assert not index.reserve(third)
    assert index.connections_of("alice") == ()
    index.add(first)
    assert index.connections_of("alice") == (first,)
    assert not index.reserve(third)
    index.remove(third)
    assert not index.reserve(third)
    index.remove(second)
    assert index.reserve(third)
    index.remove(first)
    index.remove(third)
    assert (index.connections, index.user_of) == ({}, {})


def test_users_and_anonymous_connections_have_counts_of_their_own() -> None:
    index = UserIndex(max_connections=1)
    assert all(index.reserve(connection_of(user)) for user in ("alice", "bob", None, None))
    assert not index.reserve(connection_of("alice"))


def test_a_name_that_changes_after_the_reservation_has_no_effect() -> None:
    index, connection = UserIndex(max_connections=1), connection_of("alice")
    assert index.reserve(connection)
    connection.user = "mallory"
    index.add(connection)
    assert index.connections_of("alice") == (connection,)
    index.remove(connection)
    assert (index.connections, index.user_of) == ({}, {})


class ScriptedCounts(UserCounts):
    """Counts whose results the test sets."""

    def __init__(self) -> None:
        self.requests: list[asyncio.Future[bool]] = []
        self.released: list[str] = []

    def reserve_user_nowait(self, user: str, max_connections: float) -> asyncio.Future[bool]:
        self.requests.append(asyncio.get_running_loop().create_future())
        return self.requests[-1]

    def release_user(self, user: str) -> None:
        self.released.append(user)


async def test_a_connection_that_other_processes_leave_no_place_for_does_not_count() -> None:
    counts = ScriptedCounts()
    index, connection = UserIndex(1, counts), connection_of("alice")
    assert index.reserve(connection)
    counts.requests[0].set_result(False)
    assert not await index.wait_reserved(connection)
    assert (index.connections, index.requests, counts.released) == ({}, {}, [])
    second = connection_of("alice")
    assert index.reserve(second)
    counts.requests[1].set_result(True)
    assert await index.wait_reserved(second)
    index.add(second)
    index.remove(second)
    assert (index.connections, index.requests, counts.released) == ({}, {}, ["alice"])


@pytest.mark.parametrize("granted", [True, False, None])
async def test_a_connection_that_ends_early_withdraws_its_request(granted: bool | None) -> None:
    counts = ScriptedCounts()
    index, connection = UserIndex(1, counts), connection_of("alice")
    index.reserve(connection)
    if granted is not None:
        counts.requests[0].set_result(granted)
    index.remove(connection)
    assert counts.requests[0].cancelled() == (granted is None)
    assert counts.released == (["alice"] if granted else [])
    assert (index.connections, index.user_of, index.requests) == ({}, {}, {})


@pytest.mark.parametrize("granted", [True, False])
async def test_rooms_that_are_joined_at_once_wait_for_the_place_of_their_user(
    *, granted: bool
) -> None:
    counts = ScriptedCounts()
    index, carrier = UserIndex(1, counts), connection_of(None)
    index.add(carrier)
    channel: Any = SimpleNamespace(_carrier=carrier, user="alice")
    joins = [asyncio.create_task(index.wait_reserved(channel)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(join.done() for join in joins)
    [request] = counts.requests
    request.set_result(granted)
    assert await asyncio.gather(*joins) == [granted, granted]
    assert carrier.user == ("alice" if granted else None)
    assert index.connections_of("alice") == ((carrier,) if granted else ())
    assert (index.requests, counts.released) == ({}, [])


async def test_a_user_that_changes_in_on_connect_has_one_place() -> None:
    counts = ScriptedCounts()
    index, connection = UserIndex(1, counts), connection_of("alice")
    index.reserve(connection)
    counts.requests[0].set_result(True)
    connection.user = "bob"
    waiting = asyncio.create_task(index.wait_reserved(connection))
    await asyncio.sleep(0)
    counts.requests[1].set_result(True)
    assert await waiting
    assert counts.released == ["alice"]
    assert index.user_of == {connection: "bob"}

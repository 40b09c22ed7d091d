"""The index of users, checked against a plain model."""

from collections import defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko import Connection
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

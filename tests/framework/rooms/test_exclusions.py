"""Excluded connections: by id, by user, and after a reconnection."""

from falcon_pachinko.connection.connection import Connection
from falcon_pachinko.publication import Header
from falcon_pachinko.rooms.exclusions import Exclusions
from falcon_pachinko.rooms.users import UserIndex

from .test_users import connection_of


def reconnected(*previous: Connection) -> Connection:
    """Return a connection whose client has named earlier ones."""
    connection = connection_of("alice")
    connection._previous_ids = frozenset(each.id for each in previous)
    return connection


def test_connections_and_users_are_excluded_before_and_after_the_accept() -> None:
    accepted, pending = connection_of("alice"), connection_of("bob")
    users = UserIndex()
    users.add(accepted)
    exclusions = Exclusions({accepted.id: accepted}, {}, {pending.id: pending}, users)
    assert exclusions.of(Header()) == []
    for each in (accepted, pending):
        assert exclusions.of(Header(exclude_connections=(each.id,))) == [each]
        assert exclusions.of(Header(exclude_users=(str(each.user),))) == [each]


def test_a_message_that_excludes_a_connection_excludes_its_successor_while_that_lasts() -> None:
    exclusions = Exclusions({}, {}, {}, UserIndex())
    first, second = connection_of("alice"), connection_of("alice")
    header = Header(exclude_connections=(first.id,))
    later, last = reconnected(first, second), reconnected(first, second)
    exclusions.add(later)
    assert exclusions.of(header) == [later]
    exclusions.add(last)
    assert exclusions.of(header) == [last]
    exclusions.remove(later)
    assert exclusions.of(header) == [last]
    exclusions.remove(last)
    assert exclusions.of(header) == []
    assert exclusions.successors == {}

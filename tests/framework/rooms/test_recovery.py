"""Missed messages are sent completely or not at all, within half of the outbox; messages with a position."""

import json
from typing import Any

import msgspec
import pytest

from falcon_pachinko import Limits, RouteConfig
from falcon_pachinko.history import Position
from falcon_pachinko.publication import Publication
from falcon_pachinko.rooms.recovery import fitting, position_message, repeated_position_message

from .test_users import connection_of


def texts(count: int, size: int = 10) -> list[Publication]:
    return [Publication.of_text("x" * size) for _ in range(count)]


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        (Limits(outbox_messages=8), 4),
        (Limits(outbox_bytes=80), 4),
        (Limits(outbox_messages=9, outbox_bytes=95), 4),
    ],
)
def test_half_of_the_outbox_is_used(limits: Limits, fits: int) -> None:
    connection = connection_of("alice")
    connection._configure(RouteConfig(limits=limits))
    missed = texts(fits)
    assert fitting(connection, missed) == missed
    assert fitting(connection, texts(fits + 1)) is None


def test_messages_of_other_rooms_count() -> None:
    connection = connection_of("alice")
    connection._configure(RouteConfig(limits=Limits(outbox_messages=8)))
    connection._deliver(Publication.of_text("of another room"))
    assert fitting(connection, texts(4)) is None
    assert fitting(connection, texts(3)) is not None


def test_excluded_messages_are_left_out() -> None:
    connection = connection_of("alice")
    connection._previous_ids = frozenset({"first", "second"})
    own = [Publication.to_room({"type": "x"}, (name,)) for name in ("first", "second")]
    not_for_alice = Publication.to_room({"type": "x"}, (), ["alice"])
    (other,) = texts(1)
    assert fitting(connection, [*own, not_for_alice, other]) == [other]


def test_an_incomplete_history_is_not_sent() -> None:
    assert fitting(connection_of("alice"), None) is None


@pytest.mark.parametrize(
    ("recovered", "seconds", "payload"),
    [
        (msgspec.UNSET, None, {"connection": "c1"}),
        (False, 5.0, {"connection": "c1", "recovered": False, "heartbeatSeconds": 5.0}),
    ],
)
def test_a_client_gets_the_position_of_a_room(
    recovered: bool | msgspec.UnsetType, seconds: float | None, payload: dict[str, Any]
) -> None:
    publication = position_message("c1", Position("e", 7), recovered, seconds)
    expected = {"type": "serverPosition", "payload": payload, "id": "e:7"}
    assert json.loads(publication.body) == expected


def test_idle_clients_get_the_position_of_a_room_with_history() -> None:
    message = {"type": "serverPosition", "payload": {"heartbeatSeconds": 5.0}}
    assert json.loads(repeated_position_message(None, 5.0).body) == message
    with_position = repeated_position_message(Position("e", 7), 5.0)
    assert json.loads(with_position.body) == message | {"id": "e:7"}

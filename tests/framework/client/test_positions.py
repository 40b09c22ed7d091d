"""The positions of a client: hostile ones change nothing, and their number has a bound."""

import pytest

from falcon_pachinko.client.positions import MAX_CONNECTION_IDS, Positions, Progress


@pytest.mark.parametrize(
    "position", [None, 7, "", "e", "e:", ":1", "e:x", "e:-1", "e:1\n", "e:" + "9" * 16]
)
def test_a_text_that_is_no_position_counts_as_a_message_without_one(position: object) -> None:
    positions = Positions(4)
    assert positions.advance(position, "a", {}) is Progress.NEW
    assert positions.since == []


def test_a_message_is_new_once() -> None:
    positions = Positions(4)
    assert positions.advance("e:2", "a", {}) is Progress.NEW
    assert positions.advance("e:2", "a", {}) is Progress.REPEATED
    assert positions.advance("e:1", "a", {}) is Progress.REPEATED
    assert positions.advance("f:1", "a", {}) is Progress.NEW
    assert positions.since == ["e:2", "f:1"]


def test_a_heartbeat_shows_a_gap_only_after_the_last_message() -> None:
    positions = Positions(4)
    assert positions.advance("e:4", "serverPosition", {"connection": "c"}) is Progress.NEW
    assert positions.advance("e:3", "serverPosition", {}) is Progress.NEW
    assert positions.advance("e:5", "serverPosition", {}) is Progress.GAP
    assert positions.since == ["e:4"]


def test_epochs_and_connection_ids_have_bounds() -> None:
    positions = Positions(2)
    for number in range(9):
        positions.advance(f"e{number}:1", "serverPosition", {"connection": str(number)})
    assert positions.since == ["e7:1", "e8:1"]
    assert positions.connection_ids == ["5", "6", "7", "8"]
    assert len(positions.connection_ids) == MAX_CONNECTION_IDS

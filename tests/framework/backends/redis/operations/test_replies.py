"""An operation, and the values of replies that several operations have."""

import pytest

from falcon_pachinko.backends.redis.operations import Operation
from falcon_pachinko.backends.redis.operations.replies import (
    decode_names,
    decode_nothing,
    decode_position,
    decode_records,
    decode_text,
)
from falcon_pachinko.history import Position


def test_an_operation_needs_no_lease_waits_for_none_and_costs_as_much_as_a_join() -> None:
    operation = Operation(("name", "{room}", 1), int)
    assert operation.tag == "{room}"
    assert not operation.needs_lease
    assert not operation.may_wait
    assert operation.cost == 1


def test_texts_and_names_are_decoded() -> None:
    assert decode_text("café".encode()) == "café"
    assert decode_names([b"a", "café".encode()]) == ["a", "café"]
    decode_nothing(b"any reply")


def test_a_position_has_an_epoch_and_an_offset() -> None:
    assert decode_position(b"epoch:7") == Position("epoch", 7)
    with pytest.raises(ValueError, match="too many values"):
        decode_position(b"epoch:x:y")


def test_records_are_connections_and_records_in_turn() -> None:
    assert decode_records([b"c1", b'"away"', b"c2", b"7"]) == {"c1": b'"away"', "c2": b"7"}
    assert decode_records([]) == {}

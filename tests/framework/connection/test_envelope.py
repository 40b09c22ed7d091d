"""The structs of inbound messages."""

from typing import Any

import msgspec
import pytest

from falcon_pachinko import Payload
from falcon_pachinko.connection.envelope import (
    RequestPayload,
    envelope_struct,
    may_be_missing,
    union_of,
)


class Move(Payload, frozen=True):
    row_number: int


class Say(Payload, frozen=True):
    text: str = ""


def test_the_type_selects_the_envelope() -> None:
    move, say = envelope_struct("move", Move), envelope_struct("say", Say, with_ref=True)
    decode = msgspec.json.Decoder(union_of([move, say])).decode
    moved: Any = decode('{"type": "move", "payload": {"rowNumber": 3}}')
    assert (type(moved), moved.payload, moved.ref) == (move, Move(3), msgspec.UNSET)
    said: Any = decode('{"type": "say", "ref": "7"}')
    assert (type(said), said.payload, said.ref) == (say, RequestPayload(Say(), "7"), "7")
    assert decode('{"type": "say", "payload": {}}').payload.ref is msgspec.UNSET


@pytest.mark.parametrize("with_ref", [False, True])
def test_the_path_of_a_fault_is_that_in_the_message(*, with_ref: bool) -> None:
    decode = msgspec.json.Decoder(envelope_struct("move", Move, with_ref=with_ref)).decode
    with pytest.raises(msgspec.ValidationError, match=r"\$\.payload\.rowNumber"):
        decode('{"type": "move", "payload": {"rowNumber": "x"}}')
    with pytest.raises(msgspec.ValidationError, match="missing required field `payload`"):
        decode('{"type": "move"}')
    with pytest.raises(msgspec.ValidationError, match=r"\$\.ref"):
        decode('{"type": "move", "payload": {"rowNumber": 1}, "ref": ""}')


def test_a_payload_without_required_fields_may_be_missing() -> None:
    assert [may_be_missing(each) for each in (Say, dict[str, int], Move, int)] == [
        True,
        True,
        False,
        False,
    ]

"""Pages of users, and the configuration of batches."""

import json
from typing import Any

import msgspec
import pytest

from falcon_pachinko import MessageError, RegistrationError
from falcon_pachinko.presence import (
    MAX_RECORD_BYTES,
    MemberPage,
    PresenceBatch,
    ServerPresenceChanged,
    encode_record,
    not_a_member,
)
from falcon_pachinko.publication import Publication


@pytest.mark.parametrize(
    "values",
    [{"above": 0}, {"above": 1.5}, {"above": "9"}, {"seconds": 0}, {"seconds": float("inf")}],
)
def test_a_value_that_is_not_a_number_above_zero_is_refused(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(RegistrationError, match=f"^{name} is"):
        PresenceBatch(**values)


def test_by_default_two_hundred_users_are_announced_one_by_one() -> None:
    assert (PresenceBatch().above, PresenceBatch().seconds) == (200, 0.25)


def test_fields_without_content_are_not_sent() -> None:
    message = ServerPresenceChanged(joined=[{"user": "Alice"}], left=[], count=201)
    assert json.loads(Publication(message).data) == {
        "type": "serverPresenceChanged",
        "payload": {"joined": [{"user": "Alice"}], "left": [], "count": 201},
    }


def test_a_page_is_a_list() -> None:
    page = MemberPage(["alice"], 2, 7)
    assert page == ["alice"]
    assert (page.total, page.cursor) == (2, 7)
    assert Publication({"users": page}).data == b'{"users":["alice"]}'


def test_the_error_for_an_absent_user_names_both_and_the_next_step() -> None:
    text = str(not_a_member("room", "alice"))
    assert "'alice'" in text
    assert "'room'" in text
    assert "cursor" in text


class Status(msgspec.Struct):
    """A record of this version."""

    text: str
    busy: bool = False


def test_a_page_decodes_the_records_of_its_users() -> None:
    records = {
        "alice": (msgspec.Raw(b'{"text":"away","since":7}'), msgspec.Raw(b'{"text":"here"}'))
    }
    page = MemberPage(["alice", "bob"], 2, None, records)
    assert page.decode(Status) == {"alice": [Status("away"), Status("here")], "bob": []}
    assert (
        Publication(page.records).data == b'{"alice":[{"text":"away","since":7},{"text":"here"}]}'
    )
    with pytest.raises(msgspec.ValidationError):
        page.decode(int)


@pytest.mark.parametrize(
    ("record", "encoded"),
    [
        (None, None),
        (Status("a\tb\n"), b'{"text":"a\\tb\\n","busy":false}'),
        ("away", b'"away"'),
        (msgspec.Raw(b'{\n\t"a": 1}'), b'{"a":1}'),
        ("x" * (MAX_RECORD_BYTES - 2), b'"' + b"x" * (MAX_RECORD_BYTES - 2) + b'"'),
    ],
)
def test_a_record_is_encoded_in_one_line(record: object, encoded: bytes | None) -> None:
    assert encode_record(record) == encoded


def test_a_record_that_is_too_large_is_refused_with_both_sizes() -> None:
    with pytest.raises(MessageError, match="1025 bytes, at most 1024") as refused:
        encode_record("x" * (MAX_RECORD_BYTES - 1))
    assert refused.value.code == "recordTooLarge"


def test_a_record_that_json_cannot_represent_is_refused() -> None:
    with pytest.raises(TypeError):
        encode_record(object())

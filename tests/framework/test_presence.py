"""Pages of users, and the configuration of batches."""

import json
from typing import Any

import pytest

from falcon_pachinko import RegistrationError
from falcon_pachinko.presence import (
    MemberPage,
    PresenceBatch,
    ServerPresenceChanged,
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
    message = ServerPresenceChanged(joined=["Alice"], left=[], count=201)
    assert json.loads(Publication(message).data) == {
        "type": "serverPresenceChanged",
        "payload": {"joined": ["Alice"], "left": [], "count": 201},
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

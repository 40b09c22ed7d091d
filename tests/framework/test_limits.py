"""The bounds of a connection and of a process are numbers above zero."""

from typing import Any

import pytest

from falcon_pachinko import Limits, ServerLimits


@pytest.mark.parametrize("bound", ["outbox_bytes", "outbox_messages", "on_connect_seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "5", None])
def test_limits_have_to_be_positive(bound: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{bound} is .*: it must be a number above zero"):
        Limits(**{bound: value})


def test_bounds_of_a_process_have_to_be_positive() -> None:
    with pytest.raises(ValueError, match=r"connections is 0: it must be a number above zero"):
        ServerLimits(connections=0)


def test_a_handler_may_have_no_bound() -> None:
    assert Limits(handler_seconds=None).handler_seconds is None

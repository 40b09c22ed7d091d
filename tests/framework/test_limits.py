"""The bounds of a connection and of a process are numbers above zero."""

import math
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


def test_a_heartbeat_may_be_the_default_of_the_route_or_none() -> None:
    assert Limits().heartbeat_seconds is None
    assert Limits(heartbeat_seconds=math.inf).heartbeat_seconds == math.inf
    with pytest.raises(ValueError, match="heartbeat_seconds is 0: it must be a number above zero"):
        Limits(heartbeat_seconds=0)

"""Histories: their bounds are checked."""

from typing import Any

import pytest

from falcon_pachinko import History, RegistrationError


@pytest.mark.parametrize(
    "given", [{"messages": 0}, {"seconds": float("nan")}, {"seconds": "5"}, {"room_bytes": 0}]
)
def test_bounds_that_are_not_above_zero_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(RegistrationError, match="must be a number above zero"):
        History(**given)

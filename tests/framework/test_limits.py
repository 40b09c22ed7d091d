"""The bounds of a connection are numbers above zero."""

from typing import Any

import pytest

from falcon_pachinko import Limits


@pytest.mark.parametrize("bound", ["outbox_bytes", "outbox_messages", "on_connect_seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "5", None])
def test_limits_have_to_be_positive(bound: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{bound} is .*: it must be a number above zero"):
        Limits(**{bound: value})

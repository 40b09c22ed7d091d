"""The timeouts and intervals of the nodes of a cluster."""

import pytest

from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.errors import ConfigurationError


@pytest.mark.parametrize(
    ("name", "value"),
    [("grace_seconds", -1), ("expiry_seconds", 0), ("answer_seconds", float("inf"))],
)
def test_times_that_are_not_above_zero_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Timing(**{name: value})


def test_a_grace_period_of_zero_is_accepted() -> None:
    assert Timing(grace_seconds=0).grace_seconds == 0


def test_a_lease_is_renewed_three_times_before_it_expires() -> None:
    assert Timing(expiry_seconds=9.0).renewal_seconds == 3.0

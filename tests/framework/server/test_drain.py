"""The policy of a drain."""

from typing import Any

import pytest

from falcon_pachinko import ConfigurationError
from falcon_pachinko.server.drain import DrainPolicy


def test_by_default_there_is_no_drain() -> None:
    policy = DrainPolicy()
    assert (policy.delay_seconds, policy.seconds) == (0.0, 0.0)
    assert policy.connections_per_second > 0


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"delay_seconds": -1}, "delay_seconds is -1: it must be a number 0 or more"),
        ({"seconds": float("nan")}, "seconds is nan: it must be a number 0 or more"),
        ({"seconds": "20"}, "seconds is '20': it must be a number 0 or more"),
        ({"connections_per_second": 0}, "connections_per_second is 0: it must be a number above 0"),
        ({"delay_seconds": float("inf")}, "delay_seconds is inf: it must be a number 0 or more"),
    ],
)
def test_a_value_that_is_no_time_or_rate_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        DrainPolicy(**values)

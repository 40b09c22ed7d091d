"""The delays between the attempts of a failed worker: random, below a ceiling that doubles."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.errors import ConfigurationError
from falcon_pachinko.workers import Backoff


@given(
    base_seconds=st.floats(1e-9, 1e9),
    factor=st.floats(1, 1e9),
    attempt=st.integers(0, 10**6),
)
def test_a_delay_is_between_zero_and_its_ceiling(
    base_seconds: float, factor: float, attempt: int
) -> None:
    backoff = Backoff(base_seconds=base_seconds, cap_seconds=base_seconds * factor)
    ceiling = backoff.cap_seconds
    if attempt < 64:
        ceiling = min(ceiling, base_seconds * 2**attempt)
    assert 0 <= backoff.delay_seconds(attempt) <= ceiling


@pytest.mark.parametrize(("attempt", "ceiling"), [(0, 1.0), (3, 8.0), (20, 30.0)])
def test_delays_are_uniformly_distributed(
    attempt: int, ceiling: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", random.Random(7).uniform)
    count = 20_000
    delays = sorted(Backoff().delay_seconds(attempt) / ceiling for _ in range(count))
    # Kolmogorov-Smirnov test: a uniform distribution stays below this distance in 99 of 100 cases.
    distance = max(abs(delay - (index + 0.5) / count) for index, delay in enumerate(delays))
    assert distance < 1.63 / math.sqrt(count)


@pytest.mark.parametrize("name", ["base_seconds", "cap_seconds", "reset_seconds"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_backoff_requires_positive_finite_times(name: str, value: float) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"{name} is .*: it must be above zero and finite"
    ):
        Backoff(**{name: value})


def test_a_cap_below_the_base_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"cap_seconds is 1: it must not be below base_seconds"
    ):
        Backoff(base_seconds=2, cap_seconds=1)

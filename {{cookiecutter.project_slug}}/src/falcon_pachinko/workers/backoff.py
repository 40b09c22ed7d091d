"""The delays between the attempts of a failed worker."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields

from ..errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The delay before a failed worker restarts: exponential backoff with full jitter.

    The delay is random, between 0 and a ceiling that doubles with each failure, so that workers that failed
    together do not restart together (AWS Architecture Blog, "Exponential Backoff And Jitter").

    Attributes:
        base_seconds: The first ceiling.
        cap_seconds: The highest ceiling.
        reset_seconds: A worker that has run for this time starts again with the first ceiling.

    Raises:
        ConfigurationError: A time is not above zero or not finite, or the cap is below the base.
    """

    base_seconds: float = 1.0
    cap_seconds: float = 30.0
    reset_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_seconds(field.name, getattr(self, field.name))
        if self.cap_seconds < self.base_seconds:
            raise ConfigurationError(
                f"cap_seconds is {self.cap_seconds!r}: it must not be below base_seconds,"
                f" which is {self.base_seconds!r}"
            )

    def delay_seconds(self, attempt: int) -> float:
        """Return a random delay; ``attempt`` is 0 for the first restart."""
        # NOTE: 2.0**1024 raises OverflowError; the product may be infinite.
        doubled = self.base_seconds * 2.0 ** min(attempt, 1023)
        return random.uniform(0.0, min(self.cap_seconds, doubled))


def check_seconds(name: str, value: float) -> None:
    """Raise ConfigurationError unless a duration is positive and finite."""
    if not 0 < value < math.inf:
        raise ConfigurationError(f"{name} is {value!r}: it must be above zero and finite")

"""The timeouts and intervals of the nodes of a cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ..errors import ConfigurationError

ANSWER_SECONDS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The timeouts and intervals of the nodes of a cluster.

    Attributes:
        grace_seconds: How long a user remains present after the last connection has ended, so that a page
            reload is not a departure. 0 for no grace period.
        expiry_seconds: The duration of a lease: of a node in a room, and of a worker. A node renews its leases
            after each third of it.
        answer_seconds: The time Redis may take to respond before it counts as unavailable.

    Raises:
        ConfigurationError: A value is not a number above zero.
    """

    grace_seconds: float = 5.0
    expiry_seconds: float = 30.0
    answer_seconds: float = ANSWER_SECONDS

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            is_finite = isinstance(value, (int, float)) and math.isfinite(value)
            may_be_zero = field.name == "grace_seconds"
            if not is_finite or value < 0 or (value == 0 and not may_be_zero):
                raise ConfigurationError(
                    f"{field.name} is {value!r}: it must be a number above zero"
                )

    @property
    def renewal_seconds(self) -> float:
        """The time between two renewals of a lease."""
        return self.expiry_seconds / 3

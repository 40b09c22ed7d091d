"""The numbers of a backend, for a collector of metrics."""

from __future__ import annotations

from functools import cached_property

from ..support.counters import Counters


class BackendNumbers:
    """What a collector reads from a backend; one without Redis has no outages."""

    @cached_property
    def counters(self) -> Counters:
        """The numbers of events of this process."""
        return Counters()

    @property
    def history_bytes(self) -> int:
        """The memory of the histories in this process."""
        return 0

    @property
    def unavailable_seconds(self) -> float:
        """The duration of all outages of Redis, the present one included."""
        return 0.0

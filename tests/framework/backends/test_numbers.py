"""The numbers of a backend exist from the first look on, and belong to it alone."""

from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.numbers import BackendNumbers


def test_each_backend_has_counters_of_its_own() -> None:
    first, second = MemoryBackend(), MemoryBackend()
    assert first.counters is first.counters
    assert first.counters is not second.counters


def test_a_backend_without_redis_has_no_outages() -> None:
    assert BackendNumbers().unavailable_seconds == BackendNumbers().history_bytes == 0

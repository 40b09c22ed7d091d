"""What ends with a connection."""

from collections.abc import Iterator
from typing import Any

from falcon_pachinko.connection.carrier import carried


class Carrying:
    def __init__(self, channels: list[Any] | None) -> None:
        self._channels = channels


def test_channels_follow_the_connection_that_carries_them() -> None:
    plain = Carrying(None)
    carrier = Carrying(["a", "b"])
    found: Iterator[Any] = carried([plain, carrier])
    assert list(found) == [plain, carrier, "a", "b"]

"""The defaults of a client are those of realtime.js."""

import re
from pathlib import Path

import pytest

import falcon_pachinko
from falcon_pachinko.client.options import Options

SOURCES = Path(falcon_pachinko.__file__).parents[1]
BROWSER_CLIENT = next(SOURCES.glob("*/web/realtime.js"))


def test_the_defaults_are_those_of_the_browser_client() -> None:
    text = BROWSER_CLIENT.read_text("utf-8")
    found = {
        name: int(value.replace("_", ""))
        for name, value in re.findall(
            r"\b(\w+) = ([0-9_]+)[,} ]", text.partition("#socket = null;\n")[2]
        )
    }
    options = Options()
    assert options.base_delay_seconds * 1_000 == found["baseDelayMs"]
    assert options.max_delay_seconds * 1_000 == found["maxDelayMs"]
    assert options.stable_after_seconds * 1_000 == found["stableAfterMs"]
    assert options.connect_timeout_seconds * 1_000 == found["connectTimeoutMs"]
    assert options.probe_timeout_seconds * 1_000 == found["probeTimeoutMs"]
    assert options.max_queued_messages == found["maxQueuedMessages"]
    assert options.max_buffered_bytes == found["maxBufferedBytes"]


@pytest.mark.parametrize(
    "name", ["base_delay_seconds", "max_received_messages", "max_received_bytes"]
)
def test_a_value_that_is_not_above_zero_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        Options(**{name: 0})

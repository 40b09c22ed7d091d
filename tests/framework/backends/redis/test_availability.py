"""The state of the connection to Redis: one reason, one line in the log for each change."""

import logging

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.redis.availability import (
    Availability,
    State,
    max_delay_seconds,
)


def test_each_state_has_a_reason_unless_redis_is_available() -> None:
    availability = Availability()
    assert "has not been started" in availability.outage
    availability.connect()
    assert availability.outage == "no response yet"
    availability.recover()
    assert availability.outage == ""
    availability.check()
    availability.stop()
    assert availability.state is State.STOPPED
    with pytest.raises(BackendUnavailable, match="has been stopped"):
        availability.check()


def test_an_outage_is_logged_once_and_has_the_last_reason(caplog: pytest.LogCaptureFixture) -> None:
    availability = Availability()
    availability.connect()
    availability.recover()
    assert caplog.messages == []
    availability.lose("frozen")
    since = availability.since
    availability.lose("refused")
    assert (availability.outage, availability.since) == ("refused", since)
    with pytest.raises(BackendUnavailable, match="refused"):
        availability.check()
    availability.recover()
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in lines] == [logging.ERROR, logging.WARNING]
    assert "frozen" in lines[0][1]
    assert "available again after" in lines[1][1]


def test_after_the_stop_an_outage_is_not_recorded(caplog: pytest.LogCaptureFixture) -> None:
    availability = Availability()
    availability.stop()
    availability.lose("the connection is closed")
    assert availability.state is State.STOPPED
    assert caplog.messages == []


def test_the_delay_before_a_reconnection_doubles_up_to_the_time_of_an_answer() -> None:
    delays = [max_delay_seconds(attempt, 1.0) for attempt in (0, 1, 2, 3, 4, 1000)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    # Nodes are back before a lease ends, also if it is short.
    assert max_delay_seconds(1000, 4.0) == 4.0

"""The timer wheel of sessions, with connections that only record."""

import asyncio
import logging
import time

import pytest

from falcon_pachinko.connection.expiry import TICK_SECONDS, Expiry, ExpiryWheel

NOW = 1_800_000_000.25


class Recorder:
    """A connection that records its calls."""

    def __init__(self, fails: bool = False) -> None:
        self.calls: list[int | str] = []
        self.fails = fails

    def _on_expiring(self, seconds: int) -> None:
        self.calls.append(seconds)

    def _on_expired(self) -> None:
        self.calls.append("expired")
        if self.fails:
            raise ZeroDivisionError


class Clock:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.now = NOW


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: clock.now)
    return clock


@pytest.fixture
async def wheel(clock: Clock) -> ExpiryWheel:
    return ExpiryWheel(asyncio.get_running_loop())


def tick(wheel: ExpiryWheel, clock: Clock, seconds: float) -> None:
    """Let time pass, tick by tick."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += TICK_SECONDS
        if wheel.timer is not None:
            wheel.timer.cancel()
            wheel._run()


@pytest.mark.parametrize(
    ("lifetime", "notice"), [(100.0, 30), (3600.0, 360), (36_000.0, 3600), (40.0, 30)], ids=str
)
async def test_notice_comes_a_tenth_of_the_lifetime_ahead_and_at_least_30_s(
    wheel: ExpiryWheel, clock: Clock, lifetime: float, notice: int
) -> None:
    alice = Recorder()
    wheel.add(Expiry(NOW + lifetime, alice))
    tick(wheel, clock, lifetime - notice - 2 * TICK_SECONDS)
    assert alice.calls == []
    tick(wheel, clock, 2 * TICK_SECONDS)
    assert alice.calls == [notice]
    tick(wheel, clock, notice - TICK_SECONDS)
    assert alice.calls == [notice]
    tick(wheel, clock, 2 * TICK_SECONDS)
    assert alice.calls == [notice, "expired"]
    assert wheel.timer is None


async def test_notice_of_a_short_session_comes_at_once(wheel: ExpiryWheel, clock: Clock) -> None:
    alice = Recorder()
    wheel.add(Expiry(NOW + 10.0, alice))
    tick(wheel, clock, TICK_SECONDS)
    assert alice.calls == [9]


async def test_notice_of_a_short_refreshed_session_waits_for_its_second_half(
    wheel: ExpiryWheel, clock: Clock
) -> None:
    alice = Recorder()
    wheel.add(Expiry(NOW + 10.0, alice, refreshed=True))
    tick(wheel, clock, 4.0)
    assert alice.calls == []
    tick(wheel, clock, 1.0)
    assert alice.calls == [5]


async def test_end_is_at_most_one_tick_late_and_never_early(
    wheel: ExpiryWheel, clock: Clock
) -> None:
    connections = [Recorder() for _ in range(20)]
    ends = [NOW + 2.0 + number / 10 for number in range(20)]
    for connection, at in zip(connections, ends, strict=True):
        wheel.add(Expiry(at, connection))
    while wheel.timer is not None:
        tick(wheel, clock, TICK_SECONDS)
        for connection, at in zip(connections, ends, strict=True):
            has_ended = "expired" in connection.calls
            assert has_ended == (at <= clock.now)


async def test_discarded_session_is_never_called_and_leaves_nothing(
    wheel: ExpiryWheel, clock: Clock
) -> None:
    alice, bob = Recorder(), Recorder()
    expiries = [Expiry(NOW + 100.0, each) for each in (alice, bob)]
    for expiry in expiries:
        wheel.add(expiry)
    tick(wheel, clock, 80.0)
    assert (alice.calls, bob.calls) == ([30], [30])
    wheel.discard(expiries[0])
    wheel.discard(expiries[0])
    tick(wheel, clock, 30.0)
    assert (alice.calls, bob.calls) == ([30], [30, "expired"])
    assert (wheel.buckets, wheel.timer) == ({}, None)


async def test_clock_that_jumps_forward_and_back_takes_effect_at_the_next_tick(
    wheel: ExpiryWheel, clock: Clock
) -> None:
    alice, bob = Recorder(), Recorder()
    wheel.add(Expiry(NOW + 3600.0, alice))
    wheel.add(Expiry(NOW + 7200.0, bob))
    clock.now += 4000.0
    tick(wheel, clock, TICK_SECONDS)
    assert (alice.calls, bob.calls) == (["expired"], [])
    clock.now = NOW - 86_400.0
    tick(wheel, clock, 60.0)
    assert bob.calls == []
    clock.now = NOW + 7200.0
    tick(wheel, clock, TICK_SECONDS)
    assert bob.calls == ["expired"]


async def test_failure_of_one_connection_does_not_affect_others(
    wheel: ExpiryWheel, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    connections = [Recorder(fails=True), Recorder(), Recorder(fails=True)]
    for connection in connections:
        wheel.add(Expiry(NOW + 1.0, connection))
    tick(wheel, clock, 2.0)
    assert [each.calls[-1] for each in connections] == ["expired"] * 3
    failures = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(failures) == 2


async def test_one_timer_serves_all_sessions() -> None:
    loop = asyncio.get_running_loop()
    wheel = ExpiryWheel(loop)
    tasks = len(asyncio.all_tasks())
    expiries = [Expiry(time.time() + 60.0 + number, Recorder()) for number in range(1000)]
    wheel.add(expiries[0])
    timer = wheel.timer
    for expiry in expiries[1:]:
        wheel.add(expiry)
    assert wheel.timer is timer
    assert len(asyncio.all_tasks()) == tasks
    for expiry in expiries:
        wheel.discard(expiry)
    assert wheel.buckets == {}
    assert timer is not None
    timer.cancel()

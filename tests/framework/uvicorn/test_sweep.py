"""One timer per event loop checks all connections with a deadline."""

import asyncio

import pytest

from falcon_pachinko.uvicorn import sweep
from falcon_pachinko.uvicorn.sweep import SWEEPS, Sweep

WAIT_SECONDS = 15


class Watched:
    """A connection that counts its checks and may fail or leave."""

    def __init__(self, registry: Sweep, *, lasts: int = 3, fails: bool = False) -> None:
        self.registry = registry
        self.lasts = lasts
        self.fails = fails
        self.times: list[float] = []

    def check(self, now: float) -> None:
        self.times.append(now)
        if self.fails:
            raise RuntimeError("broken")
        if len(self.times) >= self.lasts:
            self.registry.discard(self)


async def wait_idle(registry: Sweep) -> None:
    """Wait until the timer has found no connection."""
    idle = asyncio.Event()
    run = registry._run

    def run_and_report() -> None:
        run()
        if registry.timer is None:
            idle.set()

    if registry.timer is not None:
        registry.timer.cancel()
    registry._run = run_and_report  # type: ignore[method-assign]
    run_and_report()
    async with asyncio.timeout(WAIT_SECONDS):
        await idle.wait()
    del registry._run  # the method of the class again


async def test_connections_are_checked_until_they_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.01)
    registry = SWEEPS.of(asyncio.get_running_loop())
    first, second = Watched(registry), Watched(registry, lasts=5)
    registry.add(first)
    registry.add(first)
    registry.add(second)
    await wait_idle(registry)
    assert (len(first.times), len(second.times)) == (3, 5)
    assert first.times == second.times[:3] == sorted(first.times)
    assert not registry.connections


async def test_the_timer_starts_again_for_a_later_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.01)
    registry = SWEEPS.of(asyncio.get_running_loop())
    for _ in range(2):
        watched = Watched(registry, lasts=1)
        registry.add(watched)
        await wait_idle(registry)
        assert len(watched.times) == 1


async def test_a_connection_that_another_check_discards_is_not_checked() -> None:
    registry = Sweep(asyncio.get_running_loop())
    others: list[Watched] = []

    class Last(Watched):
        def check(self, now: float) -> None:
            super().check(now)
            for other in others:
                registry.discard(other)

    others += [Last(registry), Last(registry)]
    for other in others:
        registry.add(other)
    registry._run()
    assert sum(len(other.times) for other in others) == 1


async def test_a_failed_check_does_not_affect_other_connections(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = Sweep(asyncio.get_running_loop())
    broken, sound = Watched(registry, fails=True), Watched(registry)
    registry.add(broken)
    registry.add(sound)
    registry._run()
    registry._run()
    assert (len(broken.times), len(sound.times)) == (1, 2)
    assert caplog.messages == ["the check of a connection failed"]
    registry.discard(sound)
    registry.timer.cancel()  # type: ignore[union-attr]

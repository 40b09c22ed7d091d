"""Backends over a real server, driven by schedules of steps and faults, against a model of the invariants.

The normal run executes the schedules of :mod:`.known_faults` and a few random ones, always the same.
``MODEL_EXAMPLES=500 python -m pytest tests/framework/stress/test_model.py -k random`` executes new ones and
minimizes a failing one. The report of a failure contains its schedule as code.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ..support.redis_servers import RedisServer, running_redis
from ..support.server_clock import ServerClock, find_faketime
from . import schedule as steps
from .known_faults import KNOWN_FAULTS
from .model_run import ModelRun
from .schedule import ClockJump, Schedule, schedules

CAN_JUMP = find_faketime() is not None
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))
SHORT_EXAMPLES = 10

# A random schedule takes about four seconds; a long run minimizes a failure for five minutes.
SETTINGS = settings(
    max_examples=EXAMPLES or SHORT_EXAMPLES,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
    suppress_health_check=[*HealthCheck],
)


@pytest.fixture(scope="module")
def clock() -> Iterator[ServerClock | None]:
    if not CAN_JUMP:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        yield ServerClock(Path(folder))


@pytest.fixture(scope="module")
def server(clock: ServerClock | None) -> Iterator[RedisServer]:
    with running_redis(environment=clock.environment if clock else None) as server:
        yield server


def check(schedule: Schedule, server: RedisServer, clock: ServerClock | None) -> None:
    """Execute a schedule on an empty server, and fail with a report."""
    server.resume()
    server.command("FLUSHALL")
    run = ModelRun(schedule, server, clock)
    if asyncio.run(run.execute()):
        pytest.fail(run.report(), pytrace=False)


@pytest.mark.redis
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", KNOWN_FAULTS)
def test_the_invariants_hold_under_a_known_fault(
    name: str, server: RedisServer, clock: ServerClock | None
) -> None:
    schedule = KNOWN_FAULTS[name]
    if not CAN_JUMP and any(isinstance(step, ClockJump) for step in schedule.steps):
        pytest.skip("the Debian package libfaketime is not installed")
    check(schedule, server, clock)


@pytest.mark.redis
@pytest.mark.timeout(120 + EXAMPLES * 30)
@SETTINGS
@given(schedule=schedules(can_jump=CAN_JUMP))
def test_the_invariants_hold_under_random_faults(
    server: RedisServer, clock: ServerClock | None, schedule: Schedule
) -> None:
    check(schedule, server, clock)


@pytest.mark.redis
@pytest.mark.timeout(120 + EXAMPLES * 30)
@SETTINGS
@given(schedule=schedules(faults=False))
def test_the_invariants_hold_without_faults(
    server: RedisServer, clock: ServerClock | None, schedule: Schedule
) -> None:
    check(schedule, server, clock)


@settings(max_examples=50)
@given(schedule=schedules(can_jump=True))
def test_a_schedule_prints_as_code(schedule: Schedule) -> None:
    assert eval(repr(schedule), vars(steps)) == schedule

"""The clock of a server that jumps on demand."""

import time
from pathlib import Path

import pytest

from .redis_servers import running_redis
from .server_clock import ServerClock, find_faketime

pytestmark = pytest.mark.redis


def test_the_clock_of_a_server_jumps_in_both_directions_and_stays_after_a_restart(
    tmp_path: Path,
) -> None:
    if find_faketime() is None:
        pytest.skip("the Debian package libfaketime is not installed")
    clock = ServerClock(tmp_path)
    with running_redis(environment=clock.environment) as server:
        for seconds, expected in ((0.0, 0.0), (400.0, 400.0), (-4000.0, -3600.0)):
            clock.jump(seconds)
            ahead = int(server.command("TIME")[0]) - time.time()
            assert ahead == pytest.approx(expected, abs=5.0)
        server.command("SET", "a", "b", "EX", 60)
        clock.jump(120.0)
        assert server.command("GET", "a") is None
        server.restart()
        ahead = int(server.command("TIME")[0]) - time.time()
        assert ahead == pytest.approx(-3480.0, abs=5.0)

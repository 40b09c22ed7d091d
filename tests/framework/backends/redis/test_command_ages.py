"""Commands over Redis (P6): a node that was cut off executes them, for the connections that they concern."""

from __future__ import annotations

from pathlib import Path

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.publication import Publication

from ...support.backends import disconnected, running_nodes, wait_until
from ...support.redis_servers import running_redis
from ...support.server_clock import ServerClock, find_faketime

pytestmark = pytest.mark.redis

# A node that is cut off is live for longer than the caller waits.
TIMING = Timing(grace_seconds=0.2, expiry_seconds=5.0, answer_seconds=1.0)


@pytest.mark.skipif(find_faketime() is None, reason="libfaketime is not installed")
async def test_p6_a_missed_command_is_not_older_than_the_outage_after_a_jump_of_the_clock(
    tmp_path: Path,
) -> None:
    clock = ServerClock(tmp_path)
    with running_redis(environment=clock.environment) as server:
        async with running_nodes(server.url, TIMING, server) as nodes:
            a, b = await nodes.start(), await nodes.start()
            async with disconnected(b):
                with pytest.raises(BackendUnavailable, match="not confirmed"):
                    await a.backend.command(Publication.close(1000, "", user="alice"))
                clock.jump(400.0)
            await wait_until(lambda: len(b.commands) == 1)
            _, _, age_seconds = b.commands[0]
            assert age_seconds < 30.0


async def test_p6_a_command_waits_for_nodes_that_may_be_missing_from_a_list_that_was_lost() -> None:
    with running_redis() as server:
        async with running_nodes(server.url, TIMING, server) as nodes:
            a, b = await nodes.start(), await nodes.start()
            async with disconnected(b):
                server.command("FLUSHALL")
                for _ in range(2):
                    with pytest.raises(BackendUnavailable, match="not confirmed"):
                        await a.backend.command(Publication.close(1000, "", user="alice"))
                    await a.redis.renewals.renew()
            await wait_until(lambda: len(b.commands) == 2)

"""Fixtures of the tests of the Redis backend: a server for each test, and its nodes.

A test runs with Valkey; one with the mark of :mod:`.faults` runs with Redis, too, if that is installed.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from falcon_pachinko.backends.timing import Timing

from ...support.backends import Nodes, running_nodes
from ...support.cut_off import CutOff, running_cut_off
from ...support.redis_servers import VALKEY, RedisServer, find_program, running_redis


@pytest.fixture
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    program = getattr(request, "param", VALKEY)
    if find_program(program) is None:
        pytest.skip(f"{program} is not installed")
    with running_redis(program) as server:
        yield server


@pytest.fixture
async def nodes(redis_server: RedisServer) -> AsyncIterator[Nodes]:
    async with running_nodes(redis_server.url, server=redis_server) as nodes:
        yield nodes


@pytest.fixture
async def slow_nodes(redis_server: RedisServer, slow: Timing) -> AsyncIterator[Nodes]:
    """Nodes with the durations that a module gives."""
    async with running_nodes(redis_server.url, slow, redis_server) as nodes:
        yield nodes


@pytest.fixture
async def far(redis_server: RedisServer, slow_nodes: Nodes, slow: Timing) -> AsyncIterator[CutOff]:
    """A node of the same cluster that can be cut off."""
    async with running_cut_off(redis_server.port, slow_nodes.prefix, slow) as far:
        yield far

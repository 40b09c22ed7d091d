"""Fixtures of the tests of the Redis backend: a server for each test, and its nodes.

A test runs with Valkey; one with the mark of :mod:`.faults` runs with Redis, too, if that is installed.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from ...support.backends import Nodes, running_nodes
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

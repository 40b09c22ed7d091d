"""Fixtures of the tests of the Redis backend: a server for each test, and two nodes."""

from collections.abc import AsyncIterator, Iterator

import pytest

from ...support.backends import Nodes, RecordingNode, running_nodes
from ...support.redis_servers import RedisServer, running_redis


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
async def nodes(redis_server: RedisServer) -> AsyncIterator[Nodes]:
    async with running_nodes(redis_server.url, server=redis_server) as nodes:
        yield nodes


@pytest.fixture
async def a(nodes: Nodes) -> RecordingNode:
    return await nodes.start()


@pytest.fixture
async def b(a: RecordingNode, nodes: Nodes) -> RecordingNode:
    return await nodes.start()

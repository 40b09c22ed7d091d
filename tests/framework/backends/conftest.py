"""Fixtures of the tests of backends: two nodes of each kind of backend, or of those whose URL a module gives."""

from collections.abc import AsyncIterator, Iterator

import pytest

from ..support.backends import Nodes, RecordingNode, running_nodes, running_redis_cluster
from ..support.redis_servers import PROGRAMS, find_program, running_redis


@pytest.fixture(scope="module", params=["memory", *PROGRAMS, "cluster"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a backend; empty for memory."""
    if request.param == "memory":
        yield ""
    elif request.param == "cluster":
        with running_redis_cluster() as url:
            yield url
    elif find_program(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    else:
        with running_redis(request.param) as server:
            yield server.url


@pytest.fixture
async def nodes(url: str) -> AsyncIterator[Nodes]:
    async with running_nodes(url) as nodes:
        yield nodes


@pytest.fixture
async def a(nodes: Nodes) -> RecordingNode:
    return await nodes.start()


@pytest.fixture
async def b(a: RecordingNode, nodes: Nodes) -> RecordingNode:
    """Another node; with the memory backend the same one."""
    return await nodes.start()

"""Fixtures of the tests of backends: two nodes of the backend whose URL a module gives."""

from collections.abc import AsyncIterator

import pytest

from ..support.backends import Nodes, RecordingNode, running_nodes


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

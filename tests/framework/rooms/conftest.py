"""Fixtures of the tests of rooms: a server, and services on one node in memory and on two nodes over Redis."""

from collections.abc import AsyncIterator, Iterator

import pytest

from ..support.chat_cluster import ChatCluster, running_chat
from ..support.moderated_rooms import ModeratedRooms, running_rooms
from ..support.redis_servers import RedisServer, running_redis


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def cluster(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> AsyncIterator[ChatCluster]:
    async with running_chat(redis_server if request.param == "redis" else None) as cluster:
        yield cluster


@pytest.fixture(params=["memory", "redis"])
async def rooms(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> AsyncIterator[ModeratedRooms]:
    async with running_rooms(redis_server if request.param == "redis" else None) as rooms:
        yield rooms

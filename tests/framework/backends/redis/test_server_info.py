"""The eviction policy of the servers: read once at start-up, logged, and part of the backend's details."""

import logging

import pytest

from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.redis.server_info import ServerInfo, parse_info

from ...support.backends import (
    Nodes,
    RecordingNode,
    running_nodes,
    running_redis_cluster,
    wait_available,
    wait_until,
)
from ...support.redis_servers import PROGRAMS, RedisServer, find_program, running_redis

pytestmark = pytest.mark.redis

LOGGER = "falcon_pachinko.backends.redis.server_info"


async def policy_of(node: RecordingNode) -> str:
    """Wait until the node has read its servers' policy, and return it."""
    await wait_until(lambda: bool(node.backend.details))
    return node.backend.details["maxmemory_policy"]


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return the levels and the texts of the log lines about servers."""
    return [
        (record.levelname, record.message) for record in caplog.records if record.name == LOGGER
    ]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("maxmemory", "policy", "level"),
    [
        ("0", "noeviction", "INFO"),
        ("100mb", "noeviction", "INFO"),
        ("0", "allkeys-lru", "INFO"),
        ("100mb", "volatile-ttl", "WARNING"),
    ],
)
async def test_the_policy_is_logged_once_and_an_eviction_is_a_warning(
    caplog: pytest.LogCaptureFixture, program: str, maxmemory: str, policy: str, level: str
) -> None:
    if find_program(program) is None:
        pytest.skip(f"{program} is not installed")
    caplog.set_level(logging.INFO)
    options = ("--maxmemory", maxmemory, "--maxmemory-policy", policy)
    with running_redis(program, *options) as server:
        async with running_nodes(server.url) as nodes:
            node = await nodes.start()
            assert await policy_of(node) == policy
            node.redis.pubsub.restart("disconnected by the test")
            await wait_until(lambda: node.backend.outage != "")
            await wait_available(node)
    [(found, line)] = lines(caplog)
    assert found == level
    assert policy in line
    assert ("noeviction" in line) == (level == "WARNING" or policy == "noeviction")


async def test_a_user_without_the_right_to_info_gets_an_unknown_policy(
    caplog: pytest.LogCaptureFixture, redis_server: RedisServer
) -> None:
    caplog.set_level(logging.INFO)
    redis_server.command("ACL", "SETUSER", "chat", "on", ">word", "~*", "&*", "+@all", "-info")
    async with running_nodes(redis_server.url.replace("//", "//chat:word@")) as nodes:
        node = await nodes.start()
        assert await policy_of(node) == "unknown"
        assert node.backend.outage == ""
    policy, (level, warning) = lines(caplog)
    assert policy == ("INFO", "Redis: maxmemory-policy is unknown")
    assert level == "WARNING"
    assert "+info" in warning


async def test_the_policy_is_read_when_redis_becomes_available(
    nodes: Nodes, redis_server: RedisServer
) -> None:
    redis_server.pause()
    node = await nodes.start()
    assert node.backend.details == {}
    redis_server.resume()
    assert await policy_of(node) == "noeviction"


async def test_all_primaries_of_a_cluster_are_read() -> None:
    with running_redis_cluster() as url:
        async with running_nodes(url) as nodes:
            node = await nodes.start()
            assert await policy_of(node) == "noeviction"
            assert len(node.redis.server_info.servers) == 3
            assert len({info.server for info in node.redis.server_info.servers}) == 3


def test_without_redis_there_are_no_details() -> None:
    assert MemoryBackend().details == {}


@pytest.mark.parametrize(
    ("reply", "info"),
    [
        (b"", ServerInfo("a")),
        (b"maxmemory:12\r\nmaxmemory_policy:noeviction\r\n", ServerInfo("a", "", 12, "noeviction")),
        (b"# Server\r\nredis_version:7.0.15\r\n", ServerInfo("a", "7.0.15")),
        (b"redis_version:7.2.4\r\nserver_name:valkey\r\n", ServerInfo("a", "7.2.4")),
        (b"master_replid:12ab\r\n", ServerInfo("a", replication_id="12ab")),
        (b"maxmemory:many\r\nmaxmemory_policy:\r\n", ServerInfo("a")),
    ],
)
def test_a_reply_may_lack_any_field(reply: bytes, info: ServerInfo) -> None:
    assert parse_info("a", reply) == info

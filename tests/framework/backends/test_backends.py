"""The choice of a backend by its URL, and the check of a URL."""

import sys

import pytest

from falcon_pachinko.backends import backend_from_url, check_backend_url
from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.redis.backend import RedisBackend
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.errors import ConfigurationError


def test_an_empty_url_is_the_memory_backend() -> None:
    timing = Timing(grace_seconds=1.0)
    backend = backend_from_url("", timing=timing)
    assert isinstance(backend, MemoryBackend)
    assert backend.timing is timing
    check_backend_url("")


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1/0",
        "rediss://user:a%23b@127.0.0.1:1",
        "unix:///run/redis.sock",
        "redis+sentinel://10.0.0.5:26379,[::1]/service/2",
        "redis+cluster://127.0.0.1:1",
    ],
)
def test_a_url_of_redis_is_accepted_without_a_connection(url: str) -> None:
    check_backend_url(url)
    backend = backend_from_url(url, prefix="app")
    assert isinstance(backend, RedisBackend)
    assert backend.client.prefix == "app"
    assert backend.outage.startswith("the backend has not been started")


@pytest.mark.parametrize("function", [backend_from_url, check_backend_url])
def test_without_redis_py_the_error_names_the_extra(
    function: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("falcon_pachinko.backends.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    assert callable(function)
    with pytest.raises(ConfigurationError, match="needs the extra 'redis'"):
        function("redis://127.0.0.1")
    function("")

"""The checks of a backend: the URL decides what is checked."""

import sys

import pytest

from falcon_pachinko.backends.doctor import Finding, Outcome, diagnose
from falcon_pachinko.errors import ConfigurationError


async def test_a_url_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        await diagnose("nonsense")


async def test_without_a_url_one_process_needs_no_redis() -> None:
    assert await diagnose("") == [Finding(Outcome.OK, "Redis", "one process needs none")]


async def test_without_redis_py_the_finding_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("falcon_pachinko.backends.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    [finding] = await diagnose("redis://127.0.0.1")
    assert finding.outcome is Outcome.FAILURE
    assert "extra 'redis'" in finding.next_step

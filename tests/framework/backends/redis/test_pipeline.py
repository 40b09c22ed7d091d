"""The pipeline: errors of single operations, errors that are outages."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.redis.pipeline import Pipeline, is_outage_error
from falcon_pachinko.backends.redis.script import NODES
from falcon_pachinko.backends.redis.url import make_client

from ...support.backends import (
    HISTORY,
    WAIT_SECONDS,
    RecordingNode,
    text,
    wait_until,
)
from ...support.redis_servers import RedisServer

pytestmark = pytest.mark.redis


async def test_invalid_utf_8_fails_only_the_operation_that_contains_it(
    redis_server: RedisServer, a: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    futures = [
        asyncio.ensure_future(a.backend.publish("room", text("first"))),
        asyncio.ensure_future(a.backend.publish("\ud800", text("invalid"))),
        asyncio.ensure_future(a.backend.publish("room", text("second"))),
    ]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes[::2])
    assert isinstance(outcomes[1], UnicodeEncodeError)
    await wait_until(lambda: a.texts("room") == ["first", "second"])
    assert a.backend.outage == ""


@pytest.fixture
async def pipeline(redis_server: RedisServer) -> AsyncIterator[Pipeline]:
    """A running pipeline."""
    pipeline = Pipeline(make_client(redis_server.url, "pipeline", 1.0), lambda reason: None)
    running = asyncio.create_task(pipeline.run())
    yield pipeline
    running.cancel()
    await asyncio.wait({running})
    await pipeline.client.aclose()


async def test_operations_are_executed_in_the_order_of_submission(pipeline: Pipeline) -> None:
    add = [pipeline.call("add_rooms", NODES, "node", [str(number)]) for number in range(600)]
    rooms = pipeline.call("rooms_of", NODES, "node")
    remove = pipeline.call("remove_rooms", NODES, "node", ["1"])
    assert await asyncio.gather(*add) == [1] * 600
    assert len(await rooms) == 600
    assert await remove == 1
    assert len(await pipeline.call("rooms_of", NODES, "node")) == 599


async def test_a_callback_computes_the_outcome_or_raises(pipeline: Pipeline) -> None:
    operation = ("rooms_of", NODES, "node")
    assert await pipeline.submit(operation, len) == 0

    def fail(result: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await pipeline.submit(operation, fail)
    abandoned = pipeline.submit(operation, fail)
    abandoned.cancel()
    await pipeline.wait_idle(WAIT_SECONDS)


async def test_an_outage_fails_all_submitted_operations(
    redis_server: RedisServer, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    await pipeline.call("live_nodes", NODES)
    redis_server.pause()
    failing = pipeline.call("live_nodes", NODES)
    handled = pipeline.submit(("live_nodes", NODES), None, lambda error: error.reason)
    await asyncio.sleep(0)
    waiting = pipeline.call("live_nodes", NODES)
    with pytest.raises(BackendUnavailable, match="no response in time"):
        await failing
    assert await handled == "no response in time"
    with pytest.raises(BackendUnavailable):
        await waiting
    assert pipeline.outage == "no response in time"
    with pytest.raises(BackendUnavailable):
        pipeline.check_available()
    pipeline.call_ignoring_outcome("live_nodes", NODES)
    assert pipeline.submitted == []
    assert "Redis is unavailable: no response in time; retrying" in caplog.messages


async def test_stopping_fails_pending_operations(redis_server: RedisServer) -> None:
    pipeline = Pipeline(make_client(redis_server.url, "pipeline", 1.0), lambda reason: None)
    running = asyncio.create_task(pipeline.run())
    await pipeline.call("live_nodes", NODES)
    redis_server.pause()
    pending = pipeline.call("live_nodes", NODES)
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    with pytest.raises(BackendUnavailable, match="stopped"):
        await pending
    await pipeline.client.aclose()


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (b"OOM", False),
        (ResponseError("OOM command not allowed"), False),
        (ResponseError("ERR READONLY You can't write"), True),
        (ResponseError("LOADING Redis is loading"), True),
        (ResponseError("WRONGTYPE Operation against a key"), False),
        (OutOfMemoryError("command not allowed"), False),
        (ReadOnlyError("You can't write"), True),
    ],
)
def test_errors_that_concern_all_rooms_are_outages(result: object, expected: bool) -> None:
    assert is_outage_error(result) is expected

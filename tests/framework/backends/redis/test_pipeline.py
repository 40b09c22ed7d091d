"""The pipeline: the order of operations, errors of single operations, outages, waiting for a lease."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.availability import Availability
from falcon_pachinko.backends.redis.operations import Operation, Terms
from falcon_pachinko.backends.redis.pipeline import (
    MAX_ATTEMPTS,
    Pipeline,
    wait_all,
)
from falcon_pachinko.backends.redis.script import NODES
from falcon_pachinko.backends.redis.url import make_client
from falcon_pachinko.errors import OperationRefused
from falcon_pachinko.history import Position

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
        asyncio.ensure_future(a.backend.publish_nowait("room", text("first"))),
        asyncio.ensure_future(a.backend.publish_nowait("\ud800", text("invalid"))),
        asyncio.ensure_future(a.backend.publish_nowait("room", text("second"))),
    ]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes[::2])
    assert isinstance(outcomes[1], UnicodeEncodeError)
    await wait_until(lambda: a.texts("room") == ["first", "second"])
    assert a.backend.outage == ""


@pytest.mark.parametrize("name", ["\ud800", 10**30])
async def test_an_operation_without_an_encoding_delays_no_other_one(
    pipeline: Pipeline, name: object
) -> None:
    """They would wait for the next one; its own failure is reported."""
    reported: list[BackendUnavailable] = []
    invalid = Operation(("beat", "{%nodes}", name), int)
    submitted = [
        pipeline.submit(operations.live_nodes()),
        pipeline.submit(invalid, None, reported.append),
        pipeline.submit(invalid),
        pipeline.submit(operations.live_nodes()),
    ]
    async with asyncio.timeout(WAIT_SECONDS):
        outcomes = await asyncio.gather(*submitted, return_exceptions=True)
    assert [isinstance(each, BaseException) for each in outcomes] == [False, False, True, False]
    assert isinstance(outcomes[2], (UnicodeEncodeError, OverflowError))
    assert [type(each) for each in reported] == [OperationRefused]
    assert pipeline.availability.outage == ""


def make_pipeline(server: RedisServer) -> Pipeline:
    availability = Availability()
    availability.recover()
    client = make_client(server.url, "pipeline", 1.0)
    return Pipeline(client, availability, lambda reason: None)


@pytest.fixture
async def pipeline(redis_server: RedisServer) -> AsyncIterator[Pipeline]:
    """A running pipeline."""
    pipeline = make_pipeline(redis_server)
    running = asyncio.create_task(pipeline.run())
    yield pipeline
    running.cancel()
    await asyncio.wait({running})
    await pipeline.client.aclose()


async def test_operations_are_executed_in_the_order_of_submission(pipeline: Pipeline) -> None:
    add = [
        pipeline.submit(Operation(operations.add_rooms("node", [str(number)]).request, int))
        for number in range(600)
    ]
    beat = operations.beat(Terms("node", 1_000, 300, 200, 200))
    count = pipeline.submit(beat)
    remove = pipeline.submit(Operation(operations.remove_rooms("node", ["1"]).request, int))
    assert await asyncio.gather(*add) == [1] * 600
    assert (await count)[0] == 600
    assert await remove == 1
    assert (await pipeline.call(beat))[0] == 599


async def test_a_callback_computes_the_outcome_or_raises(pipeline: Pipeline) -> None:
    operation = operations.live_nodes()
    assert await pipeline.submit(operation, len) == 0

    def fail(result: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await pipeline.submit(operation, fail)
    with pytest.raises(ZeroDivisionError):
        await pipeline.call(Operation(operation.request, fail))
    abandoned = pipeline.submit(operation, fail)
    abandoned.cancel()
    await pipeline.wait_idle(WAIT_SECONDS)


async def test_an_outage_fails_all_submitted_operations(
    redis_server: RedisServer, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    await pipeline.call(operations.live_nodes())
    redis_server.pause()
    failing = pipeline.submit(operations.live_nodes())
    handled = pipeline.submit(operations.live_nodes(), None, lambda error: error.reason)
    await asyncio.sleep(0)
    waiting = pipeline.submit(operations.live_nodes())
    with pytest.raises(BackendUnavailable, match="no response in time"):
        await failing
    assert await handled == "no response in time"
    with pytest.raises(BackendUnavailable):
        await waiting
    assert pipeline.outage == "no response in time"
    with pytest.raises(BackendUnavailable):
        pipeline.check_available()
    pipeline.call_ignoring_outcome(operations.live_nodes())
    assert pipeline.submitted == []
    assert "Redis is unavailable: no response in time; retrying" in caplog.text


async def test_stopping_fails_pending_operations(redis_server: RedisServer) -> None:
    pipeline = make_pipeline(redis_server)
    running = asyncio.create_task(pipeline.run())
    await pipeline.call(operations.live_nodes())
    redis_server.pause()
    pending = pipeline.submit(operations.live_nodes())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    with pytest.raises(BackendUnavailable, match="stopped"):
        await pending
    await pipeline.client.aclose()


def publish(tag: str, data: bytes, node: str | None = "node") -> Operation[Position]:
    return operations.publish(tag, b"\n" + data, ephemeral=False, node=node)


async def test_operations_without_a_lease_are_held_in_order_until_the_release(
    pipeline: Pipeline,
) -> None:
    fenced: list[str] = []
    pipeline.on_fenced = fenced.append
    first, second = (pipeline.submit(publish("{room}", data)) for data in (b"1", b"2"))
    other = pipeline.submit(publish("{room}", b"other", node=None))
    assert (await other).offset == 1
    third = pipeline.submit(publish("{room}", b"3"))
    elsewhere = pipeline.submit(publish("{elsewhere}", b"1", node=None))
    assert (await elsewhere).offset == 1
    assert fenced == ["{room}"]
    assert not any(waiting.done() for waiting in (first, second, third))
    terms = Terms("node", 60_000, 20_000, 200, 200)
    await pipeline.call(operations.claim("{room}", terms, known=""))
    pipeline.release("{room}")
    offsets = [position.offset for position in await asyncio.gather(first, second, third)]
    assert offsets == [2, 3, 4]
    assert pipeline.held == {}


async def test_an_operation_that_never_gets_a_lease_fails(pipeline: Pipeline) -> None:
    fenced: list[str] = []

    def release(tag: str) -> None:
        fenced.append(tag)
        pipeline.release(tag)

    pipeline.on_fenced = release
    with pytest.raises(OperationRefused, match="no lease"):
        await pipeline.submit(publish("{room}", b"1"))
    assert len(fenced) == MAX_ATTEMPTS
    with pytest.raises(OperationRefused, match="no lease"):
        await pipeline.call(publish("{room}", b"1"))
    assert len(fenced) == MAX_ATTEMPTS


async def test_an_outage_fails_held_operations(
    redis_server: RedisServer, pipeline: Pipeline
) -> None:
    held = pipeline.submit(publish("{room}", b"1"))
    await wait_until(lambda: "{room}" in pipeline.held)
    redis_server.kill()
    with pytest.raises(BackendUnavailable):
        await pipeline.call(operations.live_nodes())
    with pytest.raises(BackendUnavailable):
        await held
    assert pipeline.held == {}


async def test_refused_operations_are_not_an_outage(pipeline: Pipeline) -> None:
    unknown = Operation(("unknown", NODES), int)
    assert await wait_all([pipeline.submit(operations.live_nodes()), pipeline.submit(unknown)]) == [
        [],
        None,
    ]

"""An operation that waits for its reply: its outcome, errors that are outages."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.redis.operations import Operation
from falcon_pachinko.backends.redis.pending import (
    OnFailure,
    OnResult,
    PendingOperation,
    is_outage_error,
)
from falcon_pachinko.errors import OperationRefused


def pending(
    on_result: OnResult | None = None,
    on_failure: OnFailure | None = None,
    *,
    needs_lease: bool = False,
    attempts: int = 0,
) -> PendingOperation:
    """An operation whose reply is a number."""
    operation = Operation[Any](("test", "{room}"), int, needs_lease=needs_lease)
    future = asyncio.get_running_loop().create_future()
    return PendingOperation(operation, future, on_result, on_failure, attempts)


async def test_a_result_is_decoded_and_passed_to_the_callback() -> None:
    operation = pending(lambda number: number + 1)
    operation.succeed(b"7")
    assert await operation.future == 8
    invalid = pending()
    invalid.succeed(b"not a number")
    with pytest.raises(ValueError, match="not a number"):
        await invalid.future


async def test_the_callbacks_are_called_though_nobody_waits_any_more() -> None:
    outcomes: list[Any] = []
    operation = pending(outcomes.append, outcomes.append)
    operation.future.cancel()
    operation.succeed(b"7")
    error = BackendUnavailable("no response in time")
    operation.fail(error)
    assert outcomes == [7, error]
    assert operation.future.cancelled()


async def test_an_error_is_an_outage_or_a_refusal_and_may_have_an_outcome() -> None:
    refused, failed = pending(), pending()
    refused.succeed(ResponseError("WRONGTYPE Operation against a key"))
    failed.succeed(ReadOnlyError("You can't write"))
    with pytest.raises(OperationRefused, match="WRONGTYPE"):
        await refused.future
    with pytest.raises(BackendUnavailable, match="You can't write") as raised:
        await failed.future
    assert not isinstance(raised.value, OperationRefused)
    handled = pending(on_failure=lambda error: error.reason)
    handled.succeed(ResponseError("WRONGTYPE Operation against a key"))
    assert await handled.future == "WRONGTYPE Operation against a key"


async def test_only_an_operation_that_needs_a_lease_waits_for_one() -> None:
    assert pending(needs_lease=True).may_wait
    assert not pending(needs_lease=True, attempts=-1).may_wait
    assert not pending().may_wait


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

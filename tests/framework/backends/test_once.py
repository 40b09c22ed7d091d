"""The contract of requests that are handled once, verified for memory and for Redis or Valkey, also as a cluster."""

import asyncio

import pytest

from falcon_pachinko.backends.once import (
    HEAD_BYTES,
    MAX_CLIENTS,
    MAX_REPLIES,
    MAX_REPLY_BYTES,
    Claim,
    ClaimState,
    stored_reply,
)

from ..support.backends import RecordingNode, text, wait_for_result
from ..support.once import (
    ACKNOWLEDGED,
    CLIENT,
    INTERRUPTED,
    NEW,
    RUNNING,
    claim,
    finish,
    run_of,
    state_of,
)

pytestmark = pytest.mark.redis


async def test_a_request_is_claimed_once_and_then_has_its_reply(
    a: RecordingNode, b: RecordingNode
) -> None:
    run = run_of("ref {é}")
    assert await claim(a, run) == NEW
    assert [await state_of(node, "ref {é}") for node in (a, b)] == [RUNNING, RUNNING]
    a.backend.finish_request(run, '{"type":"ü\n"}'.encode())
    reply = Claim(ClaimState.DONE, '{"type":"ü\n"}'.encode())
    await wait_for_result(lambda: state_of(b, "ref {é}"), reply)
    assert await state_of(a, "ref {é}") == reply
    assert await state_of(b, "another") == NEW


async def test_of_concurrent_claims_one_succeeds(a: RecordingNode, b: RecordingNode) -> None:
    claims = [claim((a, b)[number % 2], run_of("concurrent")) for number in range(20)]
    assert sorted((await asyncio.gather(*claims)), key=str) == [NEW, *[RUNNING] * 19]


async def test_a_request_belongs_to_its_user_and_its_client(
    a: RecordingNode, b: RecordingNode
) -> None:
    keys = [("bob", CLIENT), (None, CLIENT), ("bob", "f" * 32), (f"c{CLIENT}", CLIENT)]
    for number, (user, client) in enumerate(keys):
        run = run_of("owned", user=user, client=client)
        assert await claim(a, run) == NEW
        a.backend.finish_request(run, b"%d" % number)
    for number, (user, client) in enumerate(keys):
        expected = Claim(ClaimState.DONE, b"%d" % number)
        run = run_of("owned", user=user, client=client)
        await wait_for_result(lambda run=run: claim(b, run), expected)  # type: ignore[misc]


async def test_a_released_request_is_handled_again_and_an_interrupted_one_is_not(
    a: RecordingNode, b: RecordingNode
) -> None:
    for ref, repeatable, expected in (("again", True, NEW), ("never", False, INTERRUPTED)):
        run = run_of(ref)
        assert await claim(a, run) == NEW
        a.backend.release_request(run, repeatable=repeatable)
        await wait_for_result(lambda ref=ref: state_of(b, ref), expected)  # type: ignore[misc]
    assert await state_of(b, "never", repeatable=True) == NEW


@pytest.mark.parametrize("repeatable", [False, True])
async def test_the_effect_is_recorded_with_the_publication(
    a: RecordingNode, b: RecordingNode, *, repeatable: bool
) -> None:
    ref = f"published {repeatable}"
    run = run_of(ref)
    assert await claim(a, run, repeatable=repeatable) == NEW
    await a.backend.publish_nowait("room", text("effect"), run=run)
    assert run.published
    assert await state_of(b, ref, repeatable=repeatable) == RUNNING
    a.backend.release_request(run, repeatable=repeatable)
    await wait_for_result(lambda: state_of(b, ref, repeatable=repeatable), ACKNOWLEDGED)


async def test_a_reply_expires(a: RecordingNode, b: RecordingNode) -> None:
    for ref, seconds in (("short", 0.3), ("long", 60.0)):
        run = run_of(ref, seconds=seconds)
        assert await claim(a, run) == NEW
        a.backend.finish_request(run, b"{}")
    await wait_for_result(lambda: state_of(b, "short"), NEW)
    assert await state_of(b, "long") == Claim(ClaimState.DONE, b"{}")


async def test_the_oldest_replies_are_dropped_above_the_number(
    a: RecordingNode, b: RecordingNode
) -> None:
    await finish(a, [str(number) for number in range(MAX_REPLIES + 2)])
    last = Claim(ClaimState.DONE, b"{}")
    await wait_for_result(lambda: state_of(b, str(MAX_REPLIES + 1)), last)
    assert await state_of(b, "2") == last
    assert [await state_of(b, ref) for ref in ("0", "1")] == [NEW, NEW]


async def test_the_oldest_replies_are_dropped_above_the_size(
    a: RecordingNode, b: RecordingNode
) -> None:
    half = b"x" * (MAX_REPLY_BYTES // 2 - HEAD_BYTES)
    await finish(a, ["first", "second"], half)
    await finish(a, ["third"], b"y" * 3 * HEAD_BYTES)
    await wait_for_result(
        lambda: state_of(b, "third"), Claim(ClaimState.DONE, b"y" * 3 * HEAD_BYTES)
    )
    assert await state_of(b, "second") == Claim(ClaimState.DONE, half)
    assert await state_of(b, "first") == NEW


async def test_a_reply_above_the_bound_counts_as_an_acknowledgement(a: RecordingNode) -> None:
    largest = b"x" * (MAX_REPLY_BYTES - HEAD_BYTES)
    assert [stored_reply(largest), stored_reply(largest + b"x")] == [largest, b""]
    await finish(a, ["large"], largest)
    await wait_for_result(lambda: state_of(a, "large"), Claim(ClaimState.DONE, largest))


async def test_the_client_of_a_user_with_the_oldest_request_is_dropped(
    a: RecordingNode, b: RecordingNode
) -> None:
    clients = [f"{number:032x}" for number in range(MAX_CLIENTS)]
    requests = [(client, "one") for client in clients]
    for client, ref in (*requests, (clients[0], "two"), ("f" * 32, "one")):
        run = run_of(ref, client=client)
        assert await claim(a, run) == NEW
        a.backend.finish_request(run, b"{}")
        await asyncio.sleep(0.002)  # Redis compares times in milliseconds.
    done = Claim(ClaimState.DONE, b"{}")
    await wait_for_result(lambda: state_of(b, "one", client="f" * 32), done)
    assert await state_of(b, "two", client=clients[0]) == done
    assert await state_of(b, "one", client=clients[2]) == done
    assert await state_of(b, "one", client=clients[1]) == NEW

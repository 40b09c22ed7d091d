"""Requests that are handled once, over Redis or Valkey: ended nodes, outages, lost data."""

import asyncio

import pytest

from falcon_pachinko.backends.once import MAX_REPLIES, Claim, ClaimState
from falcon_pachinko.errors import BackendUnavailable

from ...support.backends import running_nodes, text, wait_available, wait_for_result, wait_until
from ...support.once import ACKNOWLEDGED, INTERRUPTED, NEW, RUNNING, claim, finish, run_of, state_of
from ...support.redis_servers import running_redis

pytestmark = pytest.mark.redis


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("repeatable", [False, True])
async def test_a_node_that_ends_leaves_its_requests_interrupted(
    *, repeatable: bool, published: bool
) -> None:
    with running_redis() as server:
        async with running_nodes(server.url) as nodes:
            a, b = await nodes.start(), await nodes.start()
            run = run_of("cut")
            assert await claim(a, run, repeatable=repeatable) == NEW
            if published:
                await a.backend.publish_nowait("room", text("effect"), run=run)
            assert await state_of(b, "cut", repeatable=repeatable) == RUNNING
            await nodes.crash(a)
            expected = ACKNOWLEDGED if published else NEW if repeatable else INTERRUPTED
            await wait_for_result(lambda: state_of(b, "cut", repeatable=repeatable), expected)


async def test_an_outcome_is_stored_after_an_outage() -> None:
    with running_redis() as server:
        async with running_nodes(server.url) as nodes:
            a, b = await nodes.start(), await nodes.start()
            runs = [run_of(ref) for ref in ("done", "released", "published")]
            for run in runs:
                assert await claim(a, run) == NEW
            server.pause()
            a.backend.finish_request(runs[0], b"{}")
            a.backend.release_request(runs[1], repeatable=True)
            with pytest.raises(BackendUnavailable):
                await a.backend.publish_nowait("room", text("effect"), run=runs[2])
            with pytest.raises(BackendUnavailable):
                await claim(a, run_of("refused"))
            server.resume()
            await wait_available(a, b)
            await wait_for_result(lambda: state_of(b, "done"), Claim(ClaimState.DONE, b"{}"))
            await wait_for_result(lambda: state_of(b, "released"), NEW)
            assert await state_of(b, "published") == RUNNING
            a.backend.release_request(runs[2], repeatable=True)
            await wait_for_result(lambda: state_of(b, "published"), NEW)
            await wait_until(lambda: not a.redis.once.active)


async def test_a_claim_without_an_answer_does_not_block_the_request() -> None:
    with running_redis() as server:
        async with running_nodes(server.url) as nodes:
            a, b = await nodes.start(), await nodes.start()
            waiting = asyncio.create_task(claim(a, run_of("unanswered")))
            server.pause()
            await asyncio.sleep(0)
            with pytest.raises(BackendUnavailable):
                await waiting
            cancelled = asyncio.create_task(claim(a, run_of("cancelled")))
            await asyncio.sleep(0)
            cancelled.cancel()
            server.resume()
            await asyncio.wait({cancelled})
            await wait_available(a, b)
            for node, ref in ((a, "unanswered"), (b, "unanswered"), (b, "cancelled")):
                await wait_for_result(lambda node=node, ref=ref: state_of(node, ref), NEW)  # type: ignore[misc]


async def test_an_emptied_server_keeps_no_reply_but_takes_outcomes() -> None:
    with running_redis() as server:
        async with running_nodes(server.url) as nodes:
            a = await nodes.start()
            runs = [run_of(ref) for ref in ("done", "strict", "again")]
            for run in runs:
                assert await claim(a, run) == NEW
            await finish(a, ["lost"])
            await wait_for_result(lambda: state_of(a, "lost"), Claim(ClaimState.DONE, b"{}"))
            server.command("FLUSHALL")
            a.backend.finish_request(runs[0], b"{}")
            a.backend.release_request(runs[1], repeatable=False)
            a.backend.release_request(runs[2], repeatable=True)
            await wait_for_result(lambda: state_of(a, "done"), Claim(ClaimState.DONE, b"{}"))
            assert await state_of(a, "strict") == INTERRUPTED
            assert [await state_of(a, ref) for ref in ("again", "lost")] == [NEW, NEW]


async def test_keys_of_a_wrong_type_and_lost_keys_are_replaced() -> None:
    with running_redis() as server:
        async with running_nodes(server.url) as nodes:
            a = await nodes.start()
            await finish(a, ["one"])
            await wait_for_result(lambda: state_of(a, "one"), Claim(ClaimState.DONE, b"{}"))
            keys = server.keys("*{%once:*")
            assert sorted({key.rpartition("}:")[2][0] for key in keys}) == ["i", "o", "r"]
            assert all(0 < server.command("PTTL", key) <= 60_000 for key in keys)
            for key in keys:
                server.command("SET", key, "wrong")
            await finish(a, ["two"])
            await wait_for_result(lambda: state_of(a, "two"), Claim(ClaimState.DONE, b"{}"))
            for key in keys:
                if ":o:" in key:
                    server.command("DEL", key)
            await finish(a, [f"more {number}" for number in range(2 * MAX_REPLIES)])
            done = Claim(ClaimState.DONE, b"{}")
            await wait_for_result(lambda: state_of(a, f"more {2 * MAX_REPLIES - 1}"), done)
            [requests] = [key for key in keys if ":r:" in key]
            assert server.command("HLEN", requests) <= MAX_REPLIES + 1


async def test_no_key_remains_after_its_time() -> None:
    with running_redis() as server:
        async with running_nodes(server.url) as nodes:
            a = await nodes.start()
            run = run_of("short", seconds=0.2)
            assert await claim(a, run) == NEW
            a.backend.finish_request(run, b"{}")
            await wait_until(lambda: not server.keys("*{%once:*"))

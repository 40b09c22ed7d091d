"""The contract of tickets, verified for memory and for Redis or Valkey, also as a cluster, with two nodes."""

import asyncio
import re

import pytest

from falcon_pachinko.backends.tickets import MAX_TICKET_VALUE_BYTES, MemoryTickets

from ..support.backends import (
    TIMING,
    RecordingNode,
    running_nodes,
    wait_available,
    wait_until,
)
from ..support.redis_servers import running_redis

pytestmark = pytest.mark.redis


async def test_a_ticket_is_redeemed_once_by_any_node(a: RecordingNode, b: RecordingNode) -> None:
    ticket = await a.backend.issue_ticket("alice\n{é}", 60.0)
    assert re.fullmatch(r"[\w-]{32}", ticket)
    assert await b.backend.redeem_ticket(ticket) == "alice\n{é}"
    assert await a.backend.redeem_ticket(ticket) is None
    assert await b.backend.redeem_ticket(ticket) is None


async def test_of_concurrent_attempts_one_succeeds(a: RecordingNode, b: RecordingNode) -> None:
    ticket = await a.backend.issue_ticket("", 60.0)
    attempts = [(a, b)[number % 2].backend.redeem_ticket(ticket) for number in range(20)]
    assert sorted(await asyncio.gather(*attempts), key=str) == [""] + [None] * 19


async def test_a_ticket_expires(a: RecordingNode, b: RecordingNode) -> None:
    tickets = [await a.backend.issue_ticket("alice", seconds) for seconds in (0.1, 60.0)]
    await asyncio.sleep(0.2)
    assert [await b.backend.redeem_ticket(ticket) for ticket in tickets] == [None, "alice"]


async def test_a_server_with_old_data_does_not_take_a_ticket_again() -> None:
    with running_redis() as server:
        async with running_nodes(server.url) as nodes:
            a = await nodes.start()
            ticket = await a.backend.issue_ticket("alice", 60.0)
            [key] = server.keys("*{%ticket:*")
            old = server.command("GET", key)
            assert await a.backend.redeem_ticket(ticket) == "alice"
            server.command("SET", key, old)
            assert await a.backend.redeem_ticket(ticket) == "alice"  # the copy is one
            server.kill()
            await wait_until(lambda: a.backend.outage != "")
            server.restart()
            server.command("SET", key, old)
            await wait_available(a)
            assert await a.backend.redeem_ticket(ticket) is None


async def test_a_text_of_another_shape_is_refused_without_redis() -> None:
    with running_redis() as server:
        async with running_nodes(server.url) as nodes:
            a = await nodes.start()
            server.pause()
            try:
                async with asyncio.timeout(TIMING.answer_seconds / 2):
                    for text in ("a" * 31, "a" * 33, "a" * 31 + ".", "a" * 32 + "\n", "ü" * 32):
                        assert await a.backend.redeem_ticket(text) is None
            finally:
                server.resume()


@pytest.mark.parametrize("ticket", ["", "unknown", "a" * 10_000, "}\n", "\ud800", "ü"])
async def test_any_other_text_is_no_ticket(a: RecordingNode, ticket: str) -> None:
    assert await a.backend.redeem_ticket(ticket) is None


async def test_the_value_and_the_time_are_bounded(a: RecordingNode) -> None:
    value = "é" * (MAX_TICKET_VALUE_BYTES // 2)
    assert await a.backend.redeem_ticket(await a.backend.issue_ticket(value, 86_400)) == value
    with pytest.raises(ValueError, match="4097 bytes, and at most 4096"):
        await a.backend.issue_ticket(value + "x", 1.0)
    for seconds in (0, -1, float("nan"), float("inf"), 86_401):
        with pytest.raises(ValueError, match="seconds is"):
            await a.backend.issue_ticket("", seconds)


async def test_in_memory_the_oldest_tickets_are_dropped_above_the_bound() -> None:
    tickets = MemoryTickets(max_tickets=2)
    issued = [await tickets.issue_ticket(str(number), 60.0) for number in range(3)]
    assert [await tickets.redeem_ticket(ticket) for ticket in issued] == [None, "1", "2"]
    await tickets.issue_ticket("old", 0.001)
    await asyncio.sleep(0.01)
    await tickets.issue_ticket("new", 60.0)
    assert len(tickets.unused) == 1

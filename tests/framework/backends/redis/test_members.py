"""Lists of members that agree with the stream: the list, and the changes after it, are the truth at any time."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falcon_pachinko.backends.redis import members
from falcon_pachinko.backends.redis.members import merge
from falcon_pachinko.backends.redis.operations import Operation, Page
from falcon_pachinko.history import Position
from falcon_pachinko.presence import ChangeKind, MemberChange

from ...support.backends import HISTORY, RecordingNode, announced, disconnected, text, wait_until
from .faults import each_server


def change(user: str, *, joined: bool) -> MemberChange:
    return MemberChange("room", user, ChangeKind.JOINED if joined else ChangeKind.LEFT)


def page(offset: int, *users: tuple[int, str], total: int, more: bool = False) -> Page:
    return Page(total, Position("e", offset), list(users), more)


def test_changes_up_to_the_position_of_a_list_are_in_it() -> None:
    one = page(5, (1, "alice"), (2, "bob"), total=2)
    changes = [(4, change("alice", joined=True)), (5, change("carol", joined=False))]
    merged = merge([one], None, changes)
    assert (merged, merged.total, merged.cursor) == (["alice", "bob"], 2, None)


def test_later_changes_are_applied_to_the_list_and_the_count() -> None:
    one = page(5, (1, "alice"), (2, "bob"), total=2)
    changes = [
        (6, change("alice", joined=False)),
        (7, change("carol", joined=True)),
        (8, change("alice", joined=True)),
        (9, change("carol", joined=False)),
    ]
    merged = merge([one], None, changes)
    assert (merged, merged.total) == (["bob", "alice"], 2)


def test_a_page_that_is_not_the_last_one_gets_no_new_users() -> None:
    one = page(5, (1, "alice"), (2, "bob"), total=9, more=True)
    changes = [(6, change("carol", joined=True)), (7, change("bob", joined=False))]
    merged = merge([one], 2, changes)
    assert (merged, merged.total, merged.cursor) == (["alice"], 9, 2)


@settings(deadline=None)
@given(st.data())
def test_parts_that_are_read_at_different_times_become_the_list_at_the_end(
    data: st.DataObject,
) -> None:
    users: dict[str, int] = {}
    offset, place, after = 0, 0, 0
    changes: list[tuple[int, MemberChange]] = []
    pages: list[Page] = []

    def act() -> None:
        nonlocal offset, place
        for _ in range(data.draw(st.integers(0, 4), "changes")):
            user = data.draw(st.sampled_from("abcdef"), "user")
            joined = user not in users
            offset, place = offset + 1, place + 1
            if joined:
                users[user] = place
            else:
                del users[user]
            changes.append((offset, change(user, joined=joined)))

    act()
    while not pages or pages[-1].more:
        act()
        rest = [(at, user) for user, at in users.items() if at > after]
        part = rest[:2]
        pages.append(Page(len(users), Position("e", offset), part, len(rest) > 2))
        after = part[-1][0] if part else after
    act()
    merged = merge(pages, None, changes)
    assert (merged, merged.total) == (list(users), len(users))


# With Redis.


def truth(node: RecordingNode) -> list[str]:
    """Return the users that are present after the messages that were delivered on a node."""
    users: dict[str, None] = {}
    for each in node.texts("room"):
        user, _, verb = each.partition(" ")
        if verb == "joined":
            users[user] = None
        elif verb == "left":
            del users[user]
    return list(users)


@pytest.mark.redis
@each_server
@pytest.mark.parametrize("users_per_read", [3, 1_000])
async def test_a_list_equals_the_truth_at_the_delivered_position(
    a: RecordingNode, b: RecordingNode, users_per_read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "USERS_PER_READ", users_per_read)
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    is_over = False

    async def join_and_leave(node: RecordingNode, name: str) -> None:
        chosen = random.Random(name)
        present = {}
        for number in range(120):
            presence = announced(f"{name}-{number}", f"{name}{number}")
            await node.backend.enter_nowait("room", presence)
            present[number] = presence
            if len(present) > 8 or chosen.random() < 0.3:
                left = present.pop(chosen.choice(list(present)))
                await node.backend.leave_nowait("room", left, grace=False)

    async def read(node: RecordingNode) -> int:
        count = 0
        while not is_over:
            page = await node.backend.members("room")
            # NOTE: nothing is delivered between the return and this line.
            assert page == truth(node)
            assert page.total == len(page)
            assert await node.backend.occupancy("room") == len(truth(node))
            count += 1
        return count

    readers = [asyncio.create_task(read(node)) for node in (a, b)]
    await asyncio.gather(*(join_and_leave(node, name) for node, name in ((a, "a"), (b, "b"))))
    is_over = True
    assert min(await asyncio.gather(*readers)) > 5
    assert await a.backend.members("room") == await b.backend.members("room")
    assert a.history_losses == b.history_losses == []


@pytest.mark.redis
async def test_callers_that_ask_together_share_a_read(
    a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    pipeline, requests = a.redis.pipeline, list[str]()
    call = pipeline.call

    async def count(operation: Operation[object]) -> object:
        requests.append(operation.request[0])
        return await call(operation)

    monkeypatch.setattr(pipeline, "call", count)
    reads = [asyncio.create_task(a.backend.members("room")) for _ in range(50)]
    other = asyncio.create_task(a.backend.members("room", None, 1))
    await asyncio.sleep(0)
    reads.pop().cancel()
    assert await asyncio.gather(*reads, other) == [["alice"]] * 50
    assert requests.count("page") == 2
    assert a.redis.member_lists.reads == {}
    assert a.redis.subscriptions.streams["room"].recorders == []


@pytest.mark.redis
async def test_a_list_that_is_read_while_it_becomes_outdated_is_not_shared_any_more(
    a: RecordingNode,
) -> None:
    await a.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    reads = a.redis.member_lists.reads
    first = asyncio.create_task(a.backend.members("room"))
    await asyncio.sleep(0)
    (shared,) = reads.values()
    a.redis.presence.on_recovered("room")
    second = asyncio.create_task(a.backend.members("room"))
    await asyncio.sleep(0)
    (other,) = reads.values()
    assert other is not shared
    assert await first == await second == ["alice"]
    assert reads == {}
    assert a.redis.subscriptions.streams["room"].recorders == []


@pytest.mark.redis
async def test_a_read_that_nobody_waits_for_is_cancelled(a: RecordingNode) -> None:
    await a.backend.subscribe("room", HISTORY)
    reading = asyncio.create_task(a.backend.members("room"))
    await asyncio.sleep(0)
    assert a.redis.member_lists.reads
    reading.cancel()
    await asyncio.wait({reading})
    await wait_until(lambda: a.redis.member_lists.reads == {})
    assert a.redis.subscriptions.streams["room"].recorders == []


@pytest.mark.redis
async def test_a_list_is_read_again_if_changes_are_missing(
    a: RecordingNode, b: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    await wait_until(lambda: b.got_last("room", "alice joined"))
    pubsub = b.redis.pubsub
    deliver, pubsub.on_message = pubsub.on_message, lambda channel, data: None
    await a.backend.enter_nowait("room", announced("c2", "bob"))
    pubsub.on_message = deliver
    reading = asyncio.create_task(b.backend.members("room"))
    await a.backend.publish_nowait("room", text("reveals the gap"))
    assert await reading == ["alice", "bob"]
    await wait_until(lambda: b.texts("room") == ["alice joined", "bob joined", "reveals the gap"])


@pytest.mark.redis
async def test_a_list_is_read_again_if_a_gap_is_filled_just_after_the_read(
    a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    lists, stream = a.redis.member_lists, a.redis.subscriptions.streams["room"]
    read, reads = lists._read_pages, list[str]()

    async def count(*arguments: Any) -> list[Page]:
        reads.append(arguments[0])
        return await read(*arguments)

    monkeypatch.setattr(lists, "_read_pages", count)
    reading = asyncio.create_task(a.backend.members("room"))
    await asyncio.sleep(0)
    (shared,) = lists.reads.values()
    shared.task.add_done_callback(lambda _: stream.break_recorders())
    assert await reading == ["alice"]
    assert reads == ["room", "room"]
    assert (lists.reads, stream.recorders) == ({}, [])


@pytest.mark.redis
async def test_during_an_outage_the_members_of_this_node_are_listed_and_later_all(
    a: RecordingNode, b: RecordingNode
) -> None:
    for node, user in ((a, "alice"), (b, "bob")):
        await node.backend.subscribe("room", HISTORY)
        await node.backend.enter_nowait("room", announced(user, user))
    async with disconnected(a):
        assert await a.backend.members("room") == ["alice"]
        assert await a.backend.occupancy("room") == 1
        assert not await a.backend.present("room", "bob")
        assert await a.backend.present("room", "alice")
        assert a.outdated == []
    assert a.outdated == ["room"]
    assert await a.backend.members("room") == ["alice", "bob"]

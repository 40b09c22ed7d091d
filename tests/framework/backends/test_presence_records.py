"""Records of presence, verified for each backend: memory, and two nodes over Redis or Valkey.

P2: a record belongs to a connection. P4: a list contains the records of all updates that were delivered before it.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import msgspec
import pytest

from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.presence import MemberPage

from ..support.backends import (
    HISTORY,
    Nodes,
    RecordingNode,
    text,
    wait_for_result,
    wait_until,
)
from ..support.redis_servers import PROGRAMS, find_program, running_redis

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module", params=["memory", *PROGRAMS])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a backend; empty for memory."""
    with contextlib.ExitStack() as stack:
        if request.param == "memory":
            yield ""
        elif find_program(request.param) is None:
            pytest.skip(f"{request.param} is not installed")
        else:
            yield stack.enter_context(running_redis(request.param)).url


@pytest.fixture
async def a(nodes: Nodes) -> RecordingNode:
    node = await nodes.start()
    await node.backend.subscribe("room", HISTORY)
    return node


@pytest.fixture
async def b(a: RecordingNode, nodes: Nodes) -> RecordingNode:
    """Another node; with the memory backend the same one."""
    node = await nodes.start()
    await node.backend.subscribe("room", HISTORY)
    return node


def recorded(connection: str, user: str | None, record: bytes | None) -> Presence:
    """Create a presence with a record and messages."""
    joined, left = text(f"{user} joined"), text(f"{user} left")
    return Presence(connection, user, joined, left, record=record)


def records(page: MemberPage) -> dict[str, list[bytes]]:
    """Return the records of a page as bytes."""
    return {user: [bytes(each) for each in page.records.get(user, ())] for user in page}


async def test_the_records_of_a_users_connections_are_in_the_list(
    a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.enter_nowait("room", recorded("c2", "alice", b'"here"'))
    await b.backend.enter_nowait("room", recorded("c1", "alice", b'"away"'))
    await b.backend.enter_nowait("room", recorded("c3", "alice", None))
    await b.backend.enter_nowait("room", recorded("c4", "bob", None))
    await b.backend.enter_nowait("room", recorded("c5", None, b'"nobody"'))
    for node in (a, b):
        page = await node.backend.members("room")
        assert (page, page.total) == (["alice", "bob"], 2)
        assert records(page) == {"alice": [b'"away"', b'"here"'], "bob": []}
        assert page.decode(str) == {"alice": ["away", "here"], "bob": []}


async def test_a_page_has_the_records_of_its_own_users(a: RecordingNode, b: RecordingNode) -> None:
    for name in ("alice", "bob", "carol"):
        await a.backend.enter_nowait("room", recorded(f"c-{name}", name, f'"{name}"'.encode()))
    page = await b.backend.members("room", limit=2)
    assert page.records.keys() == {"alice", "bob"}
    page = await b.backend.members("room", page.cursor, 2)
    assert records(page) == {"carol": [b'"carol"']}


async def test_a_large_room_is_read_with_all_records(a: RecordingNode, b: RecordingNode) -> None:
    names = [f"user {number}" for number in range(600)]
    enters = [
        a.backend.enter_nowait("room", Presence(name, name, record=str(number).encode()))
        for number, name in enumerate(names)
    ]
    for enter in enters:
        await enter
    page = await b.backend.members("room")
    assert page == names
    assert page.decode(int) == {name: [number] for number, name in enumerate(names)}
    page = await b.backend.members("room", limit=400)
    assert (len(page), len(page.records), page.total) == (400, 400, 600)
    assert await b.backend.members("room", page.cursor) == names[400:]


async def test_an_update_replaces_the_record_and_publishes_its_message(
    a: RecordingNode, b: RecordingNode
) -> None:
    alice = recorded("c1", "alice", b"1")
    await a.backend.enter_nowait("room", alice)
    alice.set_record(b"2")
    await a.backend.update("room", alice, text("alice: 2"))
    await a.backend.publish_nowait("room", text("marker"))
    for node in (a, b):
        await wait_until(lambda node=node: node.got_last("room", "marker"))  # type: ignore[misc]
        assert node.texts("room") == ["alice joined", "alice: 2", "marker"]
        assert [each.offset for each in node.positions("room") if each] == [1, 2, 3]
        assert records(await node.backend.members("room")) == {"alice": [b"2"]}
    first = a.positions("room")[0]
    assert first is not None
    missed = await b.backend.recover("room", [first])
    assert [each.data for each in missed or ()] == [b"alice: 2", b"marker"]


async def test_an_update_without_a_message_is_in_the_list_and_publishes_nothing(
    a: RecordingNode, b: RecordingNode
) -> None:
    alice = recorded("c1", "alice", None)
    await a.backend.enter_nowait("room", alice)
    for record, expected in ((b"1", [b"1"]), (None, []), (b"3", [b"3"])):
        alice.set_record(record)
        await a.backend.update("room", alice)
        assert records(await b.backend.members("room")) == {"alice": expected}
    await a.backend.publish_nowait("room", text("marker"))
    await wait_until(lambda: b.got_last("room", "marker"))
    assert b.texts("room") == ["alice joined", "marker"]


async def test_a_record_ends_with_its_connection(a: RecordingNode, b: RecordingNode) -> None:
    first, second = recorded("c1", "alice", b"1"), recorded("c2", "alice", b"2")
    await a.backend.enter_nowait("room", first)
    await b.backend.enter_nowait("room", second)
    await a.backend.leave_nowait("room", first, grace=True)
    assert records(await b.backend.members("room")) == {"alice": [b"2"]}
    await b.backend.leave_nowait("room", second, grace=True)
    assert records(await b.backend.members("room")) == {"alice": []}
    await a.backend.enter_nowait("room", recorded("c1", "alice", None))
    assert records(await b.backend.members("room")) == {"alice": []}


async def test_a_connection_that_joins_again_has_its_new_record(
    a: RecordingNode, b: RecordingNode
) -> None:
    first = recorded("c1", "alice", b"1")
    await a.backend.enter_nowait("room", first)
    await b.backend.enter_nowait("room", recorded("c2", "bob", None))
    for number in range(5):
        first.set_record(str(number).encode())
        await a.backend.update("room", first)
    await a.backend.leave_nowait("room", first, grace=False)
    await a.backend.enter_nowait("room", recorded("c1", "alice", b"7"))
    assert records(await b.backend.members("room")) == {"bob": [], "alice": [b"7"]}


async def test_an_update_of_a_connection_that_has_left_stores_nothing(
    a: RecordingNode, b: RecordingNode
) -> None:
    alice, bob = recorded("c1", "alice", b"1"), recorded("c2", "bob", None)
    await a.backend.enter_nowait("room", alice)
    await b.backend.enter_nowait("room", bob)
    await a.backend.leave_nowait("room", alice, grace=True)
    alice.set_record(b"2")
    await a.backend.update("room", alice)
    await a.backend.update("room", alice, text("late"))
    await wait_until(lambda: b.got_last("room", "late"))
    page = await b.backend.members("room")
    assert (page, page.records) == (["alice", "bob"], {})


async def test_p4_a_list_contains_the_updates_that_were_delivered_before_it(
    a: RecordingNode, b: RecordingNode
) -> None:
    alice = recorded("c1", "alice", b"0")
    await a.backend.enter_nowait("room", alice)
    await wait_until(lambda: b.got_last("room", "alice joined"))
    stop = asyncio.Event()

    async def update() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            alice.set_record(str(number).encode())
            await a.backend.update("room", alice, text(str(number)))
            await asyncio.sleep(0)

    updating = asyncio.create_task(update())
    try:
        for _ in range(100):
            page = await b.backend.members("room")
            delivered = b.texts("room")[-1].replace("alice joined", "0")
            assert page.decode(int) == {"alice": [int(delivered)]}
            await asyncio.sleep(0)
    finally:
        stop.set()
        await updating


async def test_a_record_keeps_any_text(a: RecordingNode, b: RecordingNode) -> None:
    status = {"text": 'ä💬\t\n\0"\\:;=', "list": [1, 2.5, None, True]}
    record = msgspec.json.encode(status)
    alice = recorded("c1", "alice", record)
    await a.backend.enter_nowait("room", alice)
    await a.backend.update("room", alice, text("unchanged"))
    await wait_until(lambda: b.got_last("room", "unchanged"))
    assert (await b.backend.members("room")).decode(dict) == {"alice": [status]}


async def test_the_occupancy_is_the_number_of_users(a: RecordingNode, b: RecordingNode) -> None:
    for connection, user in (("c1", "alice"), ("c2", "alice"), ("c3", "bob")):
        await a.backend.enter_nowait("room", recorded(connection, user, b"1"))
    await wait_for_result(lambda: b.backend.occupancy("room"), 2)
    assert await b.backend.occupancy("empty") == 0

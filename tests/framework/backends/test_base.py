"""The contract of backends, verified for each of them: memory, and Redis or Valkey in every form with two nodes."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterator

import pytest

from falcon_pachinko.backends.base import ImmediateResult
from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.history import History, Position
from falcon_pachinko.publication import Header, Publication

from ..support.backends import (
    HISTORY,
    TIMING,
    RecordingNode,
    running_redis_cluster,
    running_redis_with_tls,
    running_sentinel,
    text,
    wait_for_result,
    wait_until,
)
from ..support.redis_servers import PROGRAMS, find_program, running_redis

pytestmark = pytest.mark.redis

BACKENDS = ["memory", *PROGRAMS, "socket", "tls", "cluster", "sentinel"]


@pytest.fixture(scope="module", params=BACKENDS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a backend; empty for memory."""
    with contextlib.ExitStack() as stack:
        if request.param == "memory":
            yield ""
        elif request.param == "cluster":
            yield stack.enter_context(running_redis_cluster())
        elif request.param == "tls":
            try:
                yield stack.enter_context(running_redis_with_tls())
            except FileNotFoundError as error:
                pytest.skip(str(error))
        elif request.param in PROGRAMS:
            if find_program(request.param) is None:
                pytest.skip(f"{request.param} is not installed")
            yield stack.enter_context(running_redis(request.param)).url
        else:
            server = stack.enter_context(running_redis())
            if request.param == "socket":
                yield server.socket_url
            else:
                yield stack.enter_context(running_sentinel(server))


def alice(connection: str, *, announced: bool = True) -> Presence:
    joined, left = (text("alice joined"), text("alice left")) if announced else (None, None)
    return Presence(connection, "alice", joined, left)


async def test_all_nodes_deliver_a_room_in_one_order(a: RecordingNode, b: RecordingNode) -> None:
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", HISTORY)
    publishes = [
        (a if n % 2 else b).backend.publish_nowait("room", text(str(n))) for n in range(50)
    ]
    for publish in publishes:
        await publish
    await wait_until(lambda: len(a.texts("room")) == len(b.texts("room")) == 50)
    assert a.texts("room") == b.texts("room")
    assert sorted(a.texts("room"), key=int) == [str(n) for n in range(50)]
    positions = a.positions("room")
    assert positions == b.positions("room")
    assert [p.offset for p in positions if p] == list(range(1, 51))
    assert len({p.epoch for p in positions if p}) == 1
    assert a.backend.position("room") == positions[-1]


async def test_the_publications_of_one_node_keep_their_order(
    a: RecordingNode, b: RecordingNode
) -> None:
    await b.backend.subscribe("room", None)
    publishes = [
        a.backend.publish_nowait("room", text(str(n)), ephemeral=n % 3 == 0) for n in range(600)
    ]
    for publish in publishes:
        await publish
    await wait_until(lambda: len(b.texts("room")) == 600)
    assert b.texts("room") == [str(n) for n in range(600)]


async def test_rooms_are_separate_and_accept_any_name(a: RecordingNode, b: RecordingNode) -> None:
    names = [
        "a",
        "A",
        "a:m",
        "{a}",
        "}",
        "{}",
        "%7B",
        "nodes",
        "{%nodes}:all",
        "ä 💬",
        "a b",
        "x" * 200,
    ]
    for name in names:
        await b.backend.subscribe(name, HISTORY)
    for name in names:
        await a.backend.publish_nowait(name, text(name))
    await wait_until(lambda: len(b.publications) == len(names))
    for name in names:
        assert b.texts(name) == [name]


async def test_data_and_header_arrive_unchanged(a: RecordingNode, b: RecordingNode) -> None:
    await b.backend.subscribe("room", None)
    data = bytes(range(256)) * 100
    header = Header(
        binary=True, exclude_connections=("c1", "c2"), exclude_users=("a\nb", "ü"), close_code=4000
    )
    await a.backend.publish_nowait("room", Publication.of_encoded(data, header=header))
    await wait_until(lambda: len(b.publications) == 1)
    [(_, publication)] = b.publications
    assert publication.data == data
    assert publication.header == header
    assert not publication.is_for({"c1"}, None)
    assert not publication.is_for({"c9"}, "a\nb")
    assert publication.is_for({"c9"}, None)


async def test_an_unsubscribed_room_delivers_nothing(a: RecordingNode, b: RecordingNode) -> None:
    await b.backend.subscribe("room", None)
    await b.backend.subscribe("room", None)
    b.backend.unsubscribe("room")
    await a.backend.publish_nowait("room", text("one"))
    await wait_until(lambda: b.texts("room") == ["one"])
    b.backend.unsubscribe("room")
    await b.backend.subscribe("other", None)
    await a.backend.publish_nowait("other", text("marker"))
    await wait_until(lambda: b.texts("other") == ["marker"])
    assert b.backend.position("room") is None


async def test_a_room_can_be_unsubscribed_and_subscribed_at_once(
    a: RecordingNode, b: RecordingNode
) -> None:
    for number in range(50):
        await b.backend.subscribe("room", HISTORY)
        await a.backend.publish_nowait("room", text(str(number)))
        await wait_until(functools.partial(b.got_last, "room", str(number)))
        b.backend.unsubscribe("room")
    assert b.texts("room") == [str(number) for number in range(50)]


async def test_a_direct_publication_reaches_all_nodes(a: RecordingNode, b: RecordingNode) -> None:
    header = Header(user="alice")
    assert await a.backend.publish_direct(text("hi", header)) == len({id(a), id(b)})
    await wait_until(lambda: len(a.direct) == len(b.direct) == 1)
    assert a.direct[0].data == b.direct[0].data == b"hi"
    assert a.direct[0].header == b.direct[0].header == header


# History.


async def test_missed_publications_are_returned_in_order(
    a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    start = a.backend.position("room")
    assert start is not None
    for number in range(10):
        await a.backend.publish_nowait("room", text(str(number)))
    await b.backend.subscribe("room", HISTORY)
    for since in range(10):
        missed = await b.backend.recover("room", [Position(start.epoch, since)])
        assert missed is not None
        assert [publication.data.decode() for publication in missed] == [
            str(n) for n in range(since, 10)
        ]
        assert [publication.position for publication in missed] == [
            Position(start.epoch, n) for n in range(since + 1, 11)
        ]
    assert await b.backend.recover("room", [Position(start.epoch, 10)]) == []


async def test_a_publish_gives_the_position_of_its_message(
    a: RecordingNode, b: RecordingNode
) -> None:
    await b.backend.subscribe("room", HISTORY)
    positions = [await a.backend.publish_nowait("room", text(each)) for each in ("one", "two")]
    await wait_until(lambda: len(b.publications) == 2)
    assert positions == b.positions("room")
    assert await a.backend.publish_nowait("room", text("typing"), ephemeral=True) is None


async def test_a_message_has_one_time_on_all_nodes_and_in_the_history(
    a: RecordingNode, b: RecordingNode
) -> None:
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", HISTORY)
    start = a.backend.position("room")
    assert start is not None
    before_ms = time.time() * 1000
    await a.backend.publish_nowait("room", text("one"))
    await wait_until(lambda: len(a.publications) == len(b.publications) == 1)
    missed = await b.backend.recover("room", [start])
    assert missed is not None
    times = {each.published_ms for _, each in [*a.publications, *b.publications]}
    assert times == {missed[0].published_ms}
    (published_ms,) = times
    assert published_ms is not None
    assert before_ms - 1_000 <= published_ms <= time.time() * 1000 + 1_000


@pytest.mark.parametrize(
    "since", [Position("", 0), Position("0123456789abcdef", 3), Position("", 10**30)]
)
async def test_an_unknown_position_returns_none(a: RecordingNode, since: Position) -> None:
    await a.backend.subscribe("room", HISTORY)
    await a.backend.publish_nowait("room", text("something"))
    await wait_until(lambda: len(a.publications) == 1)
    assert await a.backend.recover("room", [since]) is None


async def test_an_incomplete_history_is_never_returned_in_part(
    a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    start = a.backend.position("room")
    assert start is not None
    for number in range(12):
        await a.backend.publish_nowait("room", text(str(number)))
    await b.backend.subscribe("room", HISTORY)
    assert await b.backend.recover("room", [start]) is None  # 12 are more than 10
    assert await b.backend.recover("room", [Position(start.epoch, 1)]) is None
    assert len(await b.backend.recover("room", [Position(start.epoch, 2)]) or ()) == 10
    assert await b.backend.recover("room", [Position(start.epoch, 13)]) is None  # not yet


async def test_the_bytes_of_a_room_are_bounded(a: RecordingNode, b: RecordingNode) -> None:
    history = History(messages=100, seconds=60.0, room_bytes=20_000)
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", history)
    start = a.backend.position("room")
    assert start is not None
    for number in range(50):
        await a.backend.publish_nowait("room", text(f"{number:1000}"))
    await wait_until(lambda: len(a.texts("room")) == len(b.texts("room")) == 50)
    for node in (a, b):
        assert await node.backend.recover("room", [start]) is None
        assert await node.backend.recover("room", [start._replace(offset=29)]) is None
        missed = await node.backend.recover("room", [start._replace(offset=35)])
        assert [publication.data.decode() for publication in missed or ()] == a.texts("room")[35:]


async def test_a_message_above_the_bytes_of_a_room_is_delivered_and_not_kept(
    a: RecordingNode, b: RecordingNode
) -> None:
    history = History(messages=100, seconds=60.0, room_bytes=2_000)
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", history)
    start = a.backend.position("room")
    assert start is not None
    texts = ["before", "x" * 3_000, "after"]
    for each in texts:
        await a.backend.publish_nowait("room", text(each))
    await wait_until(lambda: len(a.texts("room")) == len(b.texts("room")) == 3)
    for node in (a, b):
        assert node.texts("room") == texts
        assert node.history_losses == []
        assert await node.backend.recover("room", [start]) is None
        assert await node.backend.recover("room", [start._replace(offset=1)]) is None
        missed = await node.backend.recover("room", [start._replace(offset=2)])
        assert [publication.data for publication in missed or ()] == [b"after"]


async def test_publications_that_are_too_old_are_not_returned(a: RecordingNode) -> None:
    await a.backend.subscribe("room", History(messages=10, seconds=0.05))
    start = a.backend.position("room")
    assert start is not None
    await a.backend.publish_nowait("room", text("old"))
    await wait_until(lambda: len(a.publications) == 1)
    await wait_for_result(lambda: a.backend.recover("room", [start]), None)
    assert await a.backend.recover("room", [Position(start.epoch, 1)]) == []


async def test_a_room_without_history_has_no_positions(a: RecordingNode, b: RecordingNode) -> None:
    await a.backend.subscribe("room", None)
    await b.backend.publish_nowait("room", text("one"))
    await wait_until(lambda: len(a.publications) == 1)
    assert a.backend.position("room") is None
    assert not a.publications[0][1].shows_position


async def test_an_ephemeral_publication_is_delivered_and_not_stored(
    a: RecordingNode, b: RecordingNode
) -> None:
    await b.backend.subscribe("room", HISTORY)
    start = b.backend.position("room")
    assert start is not None
    for data, ephemeral in (("one", False), ("typing", True), ("two", False)):
        await a.backend.publish_nowait("room", text(data), ephemeral=ephemeral)
    await wait_until(lambda: len(b.publications) == 3)
    assert b.texts("room") == ["one", "typing", "two"]
    assert [publication.shows_position for _, publication in b.publications] == [True, False, True]
    missed = await b.backend.recover("room", [start])
    assert [publication.data for publication in missed or ()] == [b"one", b"two"]


async def test_history_outlives_the_last_member(a: RecordingNode, b: RecordingNode) -> None:
    await a.backend.subscribe("room", HISTORY)
    start = a.backend.position("room")
    assert start is not None
    await a.backend.publish_nowait("room", text("one"))
    a.backend.unsubscribe("room")
    await b.backend.publish_nowait("room", text("two"))
    await b.backend.subscribe("room", HISTORY)
    missed = await b.backend.recover("room", [start])
    assert [publication.data for publication in missed or ()] == [b"one", b"two"]


async def test_clients_that_reconnect_together_get_the_same_messages(
    a: RecordingNode, b: RecordingNode
) -> None:
    await b.backend.subscribe("room", HISTORY)
    start = b.backend.position("room")
    assert start is not None
    count = 0
    for _ in range(5):
        await a.backend.publish_nowait("room", text(str(count)))
        count += 1

    async def reconnect() -> None:
        missed = await b.backend.recover("room", [start])
        now = b.backend.position("room")
        assert missed is not None
        assert now is not None
        assert [publication.data.decode() for publication in missed] == [
            str(n) for n in range(now.offset)
        ]

    await wait_until(lambda: len(b.publications) == 5)
    clients = [asyncio.create_task(reconnect()) for _ in range(100)]
    for _ in range(4):
        await a.backend.publish_nowait("room", text(str(count)))
        count += 1
    await asyncio.gather(*clients)
    await reconnect()


# Presence.


async def test_the_first_and_the_last_connection_of_a_user_are_announced(
    a: RecordingNode, b: RecordingNode
) -> None:
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", None)
    one, two = alice("c1"), alice("c2")
    assert await a.backend.enter_nowait("room", one) is True
    assert await a.backend.enter_nowait("room", one) is False
    assert await b.backend.enter_nowait("room", two) is False
    assert await a.backend.members("room") == await b.backend.members("room") == ["alice"]
    assert await a.backend.leave_nowait("room", one, grace=False) is False
    assert await a.backend.leave_nowait("room", one, grace=False) is False
    assert await b.backend.present("room", "alice")
    assert await b.backend.leave_nowait("room", two, grace=False) is True
    assert await b.backend.leave_nowait("room", two, grace=False) is False
    assert not await a.backend.present("room", "alice")
    assert await a.backend.members("room") == []
    await wait_until(lambda: len(a.texts("room")) == len(b.texts("room")) == 2)
    assert a.texts("room") == ["alice joined", "alice left"]


async def test_a_user_that_reconnects_within_the_grace_period_has_not_left(
    a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", None)
    await b.backend.subscribe("room", None)
    await a.backend.enter_nowait("room", alice("c1"))
    assert await a.backend.leave_nowait("room", alice("c1"), grace=True) is False
    assert await b.backend.members("room") == ["alice"]
    assert await b.backend.enter_nowait("room", alice("c2")) is False
    assert await b.backend.leave_nowait("room", alice("c2"), grace=True) is False
    await wait_until(lambda: "alice left" in a.texts("room"))
    assert a.texts("room") == ["alice joined", "alice left"]
    assert await a.backend.members("room") == []


async def test_a_user_whose_client_was_asked_to_wait_remains_present_for_so_much_longer(
    a: RecordingNode, b: RecordingNode
) -> None:
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", None)
    told, other = alice("c1"), Presence("c2", "bob", text("bob joined"), text("bob left"))
    for presence in (told, other):
        await a.backend.enter_nowait("room", presence)
    told.wait_seconds = 0.6
    started = time.monotonic()
    for presence in (told, other):
        assert await a.backend.leave_nowait("room", presence, grace=True) is False
    await wait_until(lambda: "bob left" in b.texts("room"))
    assert await b.backend.members("room") == ["alice"]
    await wait_until(lambda: "alice left" in b.texts("room"))
    assert time.monotonic() - started >= 0.6 + TIMING.grace_seconds


async def test_a_user_without_messages_has_no_grace_period(a: RecordingNode) -> None:
    await a.backend.subscribe("room", None)
    await a.backend.enter_nowait("room", alice("c1", announced=False))
    assert await a.backend.leave_nowait("room", alice("c1", announced=False), grace=True) is True
    assert await a.backend.members("room") == []


async def test_members_are_in_the_order_of_joining(a: RecordingNode, b: RecordingNode) -> None:
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", None)
    users = [f"user {number}" for number in range(20, 0, -1)]
    for number, user in enumerate(users):
        node = a if number % 2 else b
        await node.backend.enter_nowait("room", Presence(f"c{number}", user))
    await a.backend.enter_nowait("room", Presence("anonymous", None))
    await a.backend.enter_nowait("room", Presence("again", users[3]))
    assert await a.backend.members("room") == await b.backend.members("room") == users


async def test_members_are_read_in_pages(a: RecordingNode, b: RecordingNode) -> None:
    for node in {id(a): a, id(b): b}.values():
        await node.backend.subscribe("room", None)
    for number in range(7):
        await a.backend.enter_nowait("room", Presence(f"c{number}", f"user {number}"))
    await a.backend.enter_nowait("room", Presence("anonymous", None))
    first = await b.backend.members("room", None, 3)
    assert (first, first.total) == (["user 0", "user 1", "user 2"], 7)
    second = await a.backend.members("room", first.cursor, 3)
    assert second == ["user 3", "user 4", "user 5"]
    last = await b.backend.members("room", second.cursor, 3)
    assert (last, last.cursor) == (["user 6"], None)
    assert await b.backend.members("room", "user 4", 1) == ["user 5"]
    assert await a.backend.occupancy("room") == await b.backend.occupancy("room") == 7


async def test_a_cursor_stays_valid_when_its_user_leaves_or_returns(a: RecordingNode) -> None:
    await a.backend.subscribe("room", None)
    for number in range(5):
        await a.backend.enter_nowait("room", Presence(f"c{number}", f"user {number}"))
    first = await a.backend.members("room", None, 2)
    await a.backend.leave_nowait("room", Presence("c1", "user 1"), grace=False)
    assert await a.backend.members("room", first.cursor) == ["user 2", "user 3", "user 4"]
    await a.backend.enter_nowait("room", Presence("c1", "user 1"))
    assert await a.backend.members("room", first.cursor) == [
        "user 2",
        "user 3",
        "user 4",
        "user 1",
    ]


async def test_a_page_after_an_absent_user_is_an_error(a: RecordingNode) -> None:
    with pytest.raises(LookupError, match="'alice' is not in room 'room'"):
        await a.backend.members("room", "alice")
    await a.backend.subscribe("room", None)
    await a.backend.enter_nowait("room", Presence("c1", "bob"))
    with pytest.raises(LookupError, match="'alice' is not in room 'room'"):
        await a.backend.members("room", "alice", 10)
    assert await a.backend.members("empty", 5, 10) == []
    assert await a.backend.occupancy("empty") == 0


async def test_a_connection_without_a_user_counts_by_itself(a: RecordingNode) -> None:
    await a.backend.subscribe("room", None)
    one, two = Presence("c1", None, text("joined")), Presence("c2", None, text("joined"))
    assert await a.backend.enter_nowait("room", one) is True
    assert await a.backend.enter_nowait("room", two) is True
    assert await a.backend.leave_nowait("room", two, grace=False) is True
    assert await a.backend.members("room") == []
    assert await a.backend.rooms("") == ["room"]


async def test_only_non_empty_rooms_are_listed(a: RecordingNode, b: RecordingNode) -> None:
    for node, room in ((a, "chat:a"), (b, "chat:b"), (b, "other")):
        await node.backend.subscribe(room, None)
        await node.backend.enter_nowait(room, Presence(room, "alice"))
    await a.backend.subscribe("chat:empty", None)
    assert await a.backend.rooms("chat:") == await b.backend.rooms("chat:") == ["chat:a", "chat:b"]
    assert await a.backend.rooms("") == ["chat:a", "chat:b", "other"]
    await b.backend.leave_nowait("chat:b", Presence("chat:b", "alice"), grace=False)
    await wait_for_result(lambda: a.backend.rooms("chat:"), ["chat:a"])


# Results.


async def test_an_immediate_result_can_be_awaited_again() -> None:
    result = ImmediateResult("value")
    assert [await result, await result] == ["value", "value"]

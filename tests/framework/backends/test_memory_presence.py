"""The presence in memory: grace periods, batches of joins and leaves, users that return after a restart."""

import asyncio
import json
from typing import Any

import pytest

from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.history import History
from falcon_pachinko.presence import PresenceBatch
from falcon_pachinko.publication import Publication

from ..support.backends import RecordingNode, announced, text, wait_until

GRACE_SECONDS = 0.2


@pytest.fixture
def node() -> RecordingNode:
    backend = MemoryBackend(Timing(grace_seconds=GRACE_SECONDS))
    backend.node = node = RecordingNode(backend)
    return node


@pytest.fixture
def backend(node: RecordingNode) -> MemoryBackend:
    assert isinstance(node.backend, MemoryBackend)
    return node.backend


async def test_a_leave_message_is_published_after_the_grace_period(node: RecordingNode) -> None:
    backend = node.backend
    await backend.subscribe("room", None)
    await backend.enter_nowait("room", announced("c1", "alice"))
    await backend.leave_nowait("room", announced("c1", "alice"), grace=True)
    assert node.texts("room") == ["alice joined"]
    await wait_until(lambda: node.texts("room") == ["alice joined", "alice left"])


async def test_a_user_that_returns_within_the_grace_period_has_not_left(
    node: RecordingNode,
) -> None:
    backend = node.backend
    await backend.subscribe("room", None)
    await backend.enter_nowait("room", announced("c1", "alice"))
    assert await backend.leave_nowait("room", announced("c1", "alice"), grace=True) is False
    assert await backend.members("room") == ["alice"]
    assert await backend.enter_nowait("room", announced("c2", "alice")) is False
    await asyncio.sleep(2 * GRACE_SECONDS)
    assert node.texts("room") == ["alice joined"]


async def test_without_grace_the_user_leaves_at_once(node: RecordingNode) -> None:
    backend = node.backend
    await backend.subscribe("room", None)
    await backend.enter_nowait("room", announced("c1", "alice"))
    assert await backend.leave_nowait("room", announced("c1", "alice"), grace=False) is True
    assert not await backend.present("room", "alice")
    assert node.texts("room") == ["alice joined", "alice left"]


# After a restart.


def returning(user: str) -> Presence:
    """Create the presence of a client that names a position of an earlier connection."""
    messages = (text(f"{user} joined"), text(f"{user} left"))
    return Presence(f"connection of {user}", user, *messages, reconnects=True)


async def test_users_that_return_after_a_restart_are_not_announced(node: RecordingNode) -> None:
    backend = node.backend
    await backend.start()
    for room in ("room", "other"):
        await backend.subscribe(room, None)
    for user in ("alice", "bob"):
        assert await backend.enter_nowait("room", returning(user)) is True
    await backend.enter_nowait("other", announced("c3", "carol"))
    assert await backend.members("room") == ["alice", "bob"]
    assert node.outdated == []
    await wait_until(lambda: node.outdated == ["room"])
    await asyncio.sleep(2 * GRACE_SECONDS)
    assert node.outdated == ["room"]
    assert node.texts("room") == []
    assert node.texts("other") == ["carol joined"]


async def test_a_user_that_returned_after_a_restart_is_announced_when_it_leaves(
    node: RecordingNode,
) -> None:
    backend = node.backend
    await backend.start()
    await backend.subscribe("room", None)
    await backend.enter_nowait("room", returning("alice"))
    await backend.leave_nowait("room", returning("alice"), grace=False)
    assert node.texts("room") == ["alice left"]


async def test_later_than_the_grace_period_after_the_start_a_returning_user_is_announced(
    node: RecordingNode,
) -> None:
    backend = node.backend
    await backend.start()
    await backend.subscribe("room", None)
    await asyncio.sleep(1.5 * GRACE_SECONDS)
    await backend.enter_nowait("room", returning("alice"))
    assert node.texts("room") == ["alice joined"]
    assert node.outdated == []


# Batches. Nothing in a test waits before it calls next_batch(), so no batch is published earlier.

BATCH = PresenceBatch(above=3, seconds=0.02)


class LargeRoom:
    """A room that announces changes in batches above three users."""

    def __init__(self, node: RecordingNode, backend: MemoryBackend) -> None:
        self.node = node
        self.backend = backend

    async def join(self, *users: str) -> None:
        for user in users:
            await self.backend.enter_nowait("room", in_batches(user))

    async def leave(self, *users: str, grace: bool = False) -> None:
        for user in users:
            await self.backend.leave_nowait("room", in_batches(user), grace=grace)

    def published(self) -> list[Any]:
        """Return the texts and the payloads of batches that were published since the last call.

        The users of a batch are shown by their names.
        """
        texts = self.node.texts("room")
        self.node.publications.clear()
        return [with_names(each) if each.startswith("{") else each for each in texts]

    async def next_batch(self) -> list[Any]:
        """Wait until no change waits for a batch; return the publications."""
        await wait_until(lambda: self.backend.rooms_by_name["room"].changes is None)
        return self.published()


def with_names(text: str) -> dict[str, Any]:
    """Return the payload of a batch, with the names of its users."""
    payload = json.loads(text)["payload"]
    for field in {"joined", "left", "users"} & payload.keys():
        payload[field] = [user["user"] for user in payload[field]]
    return dict(payload)


def in_batches(user: str) -> Presence:
    presence = announced(f"connection of {user}", user)
    presence.batch = BATCH
    return presence


@pytest.fixture
async def large(node: RecordingNode, backend: MemoryBackend) -> LargeRoom:
    """A room with the users a, b and c, one below the number for batches."""
    await backend.subscribe("room", None)
    room = LargeRoom(node, backend)
    await room.join("a", "b", "c")
    assert room.published() == ["a joined", "b joined", "c joined"]
    return room


async def test_up_to_the_bound_each_user_is_announced_at_once(large: LargeRoom) -> None:
    await large.leave("c")
    await large.join("c")
    assert large.published() == ["c left", "c joined"]
    assert large.backend.rooms_by_name["room"].changes is None


async def test_above_the_bound_changes_are_one_message(large: LargeRoom) -> None:
    await large.join("d", "e")
    await large.leave("a")
    await large.join("f")
    assert large.published() == []
    assert await large.next_batch() == [{"joined": ["d", "e", "f"], "left": ["a"], "count": 5}]
    await large.leave("d")
    assert await large.next_batch() == [{"joined": [], "left": ["d"], "count": 4}]


async def test_a_batch_has_the_payloads_of_the_join_and_leave_messages(
    large: LargeRoom,
) -> None:
    def named(user: str) -> Presence:
        join, leave = ({"type": kind, "payload": {"name": user, "way": kind}} for kind in "+-")
        return Presence(user, user, Publication(join), Publication(leave), BATCH)

    for user in ("d", "e"):
        await large.backend.enter_nowait("room", named(user))
    await large.backend.leave_nowait("room", named("d"), grace=False)
    await large.leave("a", "b")
    await large.backend.members("room")
    await wait_until(lambda: large.backend.rooms_by_name["room"].changes is None)
    [text] = large.node.texts("room")
    assert json.loads(text)["payload"] == {
        "joined": [{"name": "e", "way": "+"}],
        "left": [{"user": "a"}, {"user": "b"}],
        "count": 2,
        "users": [{"user": "c"}, {"name": "e", "way": "+"}],
    }


async def test_a_second_connection_of_a_user_announces_nothing(large: LargeRoom) -> None:
    await large.join("d")
    assert len(await large.next_batch()) == 1
    second = Presence("another", "d", text("d joined"), text("d left"), BATCH)
    assert await large.backend.enter_nowait("room", second) is False
    await large.leave("d")
    assert large.backend.rooms_by_name["room"].changes is None
    await large.backend.leave_nowait("room", second, grace=False)
    assert (await large.next_batch())[0]["left"] == ["d"]


async def test_a_user_that_joins_and_leaves_within_a_batch_is_not_announced(
    large: LargeRoom,
) -> None:
    await large.join("d")
    await large.leave("d")
    assert await large.next_batch() == []
    assert await large.backend.members("room") == ["a", "b", "c"]


async def test_a_user_that_leaves_and_returns_within_a_batch_is_not_announced(
    large: LargeRoom,
) -> None:
    await large.join("d", "e")
    assert len(await large.next_batch()) == 1
    await large.leave("a")
    assert await large.backend.members("room") == ["a", "b", "c", "d", "e"]
    await large.join("a")
    await large.leave("e")
    assert await large.next_batch() == [{"joined": [], "left": ["e"], "count": 4}]


async def test_a_client_with_a_list_from_within_a_batch_stays_correct(large: LargeRoom) -> None:
    await large.join("d", "e")
    assert len(await large.next_batch()) == 1
    await large.join("f", "g")
    await large.leave("a")
    names = await large.backend.members("room")
    await large.leave("g", "f")
    await large.join("f", "h", "i")
    await large.leave("i")
    [message] = await large.next_batch()
    expected = await large.backend.members("room")
    known = [name for name in names if name not in message["left"]]
    known += [name for name in message["joined"] if name not in known]
    assert known == expected == ["b", "c", "d", "e", "f", "h"]
    assert message == {"joined": ["f", "h"], "left": ["a", "g"], "count": 6}


async def test_a_client_with_a_number_from_within_a_batch_is_corrected(large: LargeRoom) -> None:
    await large.join("d", "e")
    assert len(await large.next_batch()) == 1
    await large.join("f")
    assert await large.backend.occupancy("room") == 6
    await large.leave("f")
    assert await large.next_batch() == [{"joined": [], "left": [], "count": 5}]


async def test_below_the_bound_all_users_are_sent_and_messages_are_single_again(
    large: LargeRoom,
) -> None:
    await large.join("d")
    await large.leave("b", "a")
    await large.join("e")
    await large.leave("c")
    assert await large.next_batch() == [
        {"joined": ["d", "e"], "left": ["b", "a", "c"], "count": 2, "users": ["d", "e"]}
    ]
    await large.join("f")
    assert large.published() == ["f joined"]


async def test_a_grace_period_precedes_the_batch(large: LargeRoom) -> None:
    await large.join("d", "e")
    assert len(await large.next_batch()) == 1
    await large.leave("d", "e", grace=True)
    await large.join("e")
    assert large.backend.rooms_by_name["room"].changes is None
    await wait_until(lambda: large.node.publications != [])
    assert large.published() == [{"joined": [], "left": ["d"], "count": 4}]


async def test_a_batch_keeps_its_place_among_the_messages_and_in_the_history(
    node: RecordingNode, backend: MemoryBackend
) -> None:
    await backend.subscribe("room", History())
    large = LargeRoom(node, backend)
    await large.join("a", "b", "c", "d")
    await backend.publish_nowait("room", text("hello"))
    await wait_until(lambda: len(node.publications) == 5)
    await backend.publish_nowait("room", text("goodbye"))
    assert [each.position and each.position.offset for _, each in node.publications] == [
        1, 2, 3, 4, 5, 6,
    ]  # fmt: skip
    assert large.published()[3:] == ["hello", {"joined": ["d"], "left": [], "count": 4}, "goodbye"]
    position = backend.position("room")
    assert position is not None
    missed = await backend.recover("room", [position._replace(offset=4)])
    assert missed is not None
    assert [b"serverPresenceChanged" in each.data for each in missed] == [True, False]


async def test_connections_without_a_user_or_a_message_are_in_no_batch(large: LargeRoom) -> None:
    await large.join("d")
    nobody = Presence("c0", None, text("somebody joined"), text("somebody left"), BATCH)
    silent = Presence("c1", "silent", None, None, BATCH)
    for presence in (nobody, silent):
        await large.backend.enter_nowait("room", presence)
        await large.backend.leave_nowait("room", presence, grace=False)
    assert await large.next_batch() == [
        "somebody joined",
        "somebody left",
        {"joined": ["d"], "left": [], "count": 4},
    ]


async def test_a_room_whose_users_all_leave_is_removed_after_the_batch(large: LargeRoom) -> None:
    await large.join("d")
    await large.leave("a", "b", "c", "d")
    large.backend.unsubscribe("room")
    assert await large.backend.rooms("") == ["room"]
    await wait_until(lambda: large.backend.rooms_by_name == {})
    assert large.published() == [{"joined": [], "left": ["a", "b", "c"], "count": 0, "users": []}]


async def test_a_stopped_backend_publishes_no_batch(large: LargeRoom) -> None:
    await large.join("d")
    changes = large.backend.rooms_by_name["room"].changes
    assert changes is not None
    await large.backend.stop()
    assert changes.timer.cancelled()
    assert large.published() == []

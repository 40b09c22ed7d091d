"""Bans and mutes through the manager and publishers, on one process and on two nodes over Redis, from sockets."""

import asyncio
import re
import time
from collections.abc import AsyncIterator

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.restriction_entry import Restriction
from falcon_pachinko.errors import InvalidRoomName
from falcon_pachinko.publisher import AsyncPublisher, Publisher

from ..support.moderated_rooms import ModeratedRooms, running_rooms
from ..support.redis_servers import RedisServer, running_redis

pytestmark = pytest.mark.redis

BANNED = re.compile(r"You are banned until 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\.")
MUTED = re.compile(r"You are muted until 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\.")


@pytest.fixture
async def two_nodes(redis_server: RedisServer) -> AsyncIterator[ModeratedRooms]:
    async with running_rooms(redis_server) as rooms:
        yield rooms


async def test_a_ban_closes_all_connections_of_the_user_and_refuses_new_ones(
    rooms: ModeratedRooms,
) -> None:
    bobs = [await rooms.connect(number, "/lobby?user=bob") for number in (0, 1)]
    alice = await rooms.connect(1, "/lobby?user=alice")
    async with asyncio.timeout(1.0):
        await rooms.manager(0).ban("bob", seconds=60)
    for code, reason in [await bob.wait_closed() for bob in bobs]:
        assert code == 4403
        assert BANNED.fullmatch(reason)
    for number, path in ((0, "/lobby?user=bob"), (1, "/none?user=bob"), (1, "/none?late_user=bob")):
        code, reason = await rooms.refusal(number, path)
        assert code == 4403
        assert BANNED.fullmatch(reason)
    await alice.send("say", {})
    assert await alice.receive() == {"type": "said"}
    await rooms.manager(1).unban("bob")
    bob = await rooms.connect(0, "/lobby?user=bob")
    await bob.send("say", {})
    assert await bob.receive() == {"type": "said"}


async def test_a_ban_from_a_room_concerns_that_room_only(rooms: ModeratedRooms) -> None:
    inside = await rooms.connect(1, "/lobby?user=bob")
    outside = await rooms.connect(1, "/other?user=bob")
    await rooms.manager(0).ban("bob", "lobby", seconds=60)
    code, reason = await inside.wait_closed()
    assert code == 4403
    assert BANNED.fullmatch(reason)
    assert (await rooms.refusal(0, "/lobby?user=bob"))[0] == 4403
    await outside.send("join", {"room": "lobby"})
    error = await outside.receive()
    assert (error["type"], error["payload"]["code"]) == ("serverError", "banned")
    assert BANNED.fullmatch(error["payload"]["error"])
    await outside.send("join", {"room": "third"})
    assert await outside.receive() == {"type": "joined"}
    await rooms.manager(1).unban("bob", "lobby")
    await outside.send("join", {"room": "lobby"})
    assert await outside.receive() == {"type": "joined"}


async def test_a_ban_ends_by_itself(rooms: ModeratedRooms) -> None:
    await rooms.manager(0).ban("bob", seconds=0.3)
    assert (await rooms.refusal(1, "/lobby?user=bob"))[0] == 4403
    await asyncio.sleep(0.35)
    bob = await rooms.connect(1, "/lobby?user=bob")
    await bob.send("read", {})
    assert await bob.receive() == {"type": "read"}


@pytest.mark.parametrize("room", [None, "lobby"])
async def test_a_muted_user_reads_and_does_not_send(
    rooms: ModeratedRooms, room: str | None
) -> None:
    bob = await rooms.connect(1, "/lobby?user=bob")
    alice = await rooms.connect(1, "/lobby?user=alice")
    await rooms.manager(0).mute("bob", room, seconds=60)
    await bob.send("say", {})
    error = await bob.receive()
    assert (error["type"], error["payload"]["code"]) == ("serverError", "muted")
    assert MUTED.fullmatch(error["payload"]["error"])
    await bob.send("read", {})
    assert await bob.receive() == {"type": "read"}
    await alice.send("say", {})
    assert await alice.receive() == {"type": "said"}
    other = await rooms.connect(0, "/other?user=bob")
    await other.send("say", {})
    assert (await other.receive())["type"] == ("serverError" if room is None else "said")
    await rooms.manager(1).unmute("bob", room)
    await bob.send("say", {})
    assert await bob.receive() == {"type": "said"}


async def test_the_restrictions_in_force_are_listed(rooms: ModeratedRooms) -> None:
    at = time.time()
    await rooms.manager(0).ban("bob")
    await rooms.manager(0).mute("amy", "lobby", seconds=60)
    await rooms.manager(0).ban("eve", seconds=60)
    await rooms.manager(0).unban("eve")
    listed = await rooms.manager(1).restrictions()
    assert listed == [
        Restriction("mute", "amy", "lobby", pytest.approx(at + 60, abs=5)),  # type: ignore[arg-type]
        Restriction("ban", "bob", None, pytest.approx(at + 3_600, abs=5)),  # type: ignore[arg-type]
    ]


async def test_a_wrong_argument_changes_nothing(rooms: ModeratedRooms) -> None:
    manager = rooms.manager(0)
    for user in ("", " bob", "bo\nb", "x" * 300):
        with pytest.raises(ValueError, match="the user"):
            await manager.ban(user)
    with pytest.raises(InvalidRoomName):
        await manager.mute("bob", "a\nb")
    with pytest.raises(ValueError, match="seconds is 0"):
        await manager.ban("bob", seconds=0)
    assert await manager.restrictions() == []
    await manager.unban("bob")  # there is none
    assert await manager.restrictions() == []


async def test_an_async_publisher_moderates(two_nodes: ModeratedRooms) -> None:
    bob = await two_nodes.connect(1, "/lobby?user=bob")
    async with AsyncPublisher(two_nodes.url, prefix=two_nodes.prefix) as publisher:
        await publisher.ban("bob", seconds=60)
        assert (await bob.wait_closed())[0] == 4403
        assert (await two_nodes.refusal(0, "/lobby?user=bob"))[0] == 4403
        assert await publisher.restrictions() == await two_nodes.manager(0).restrictions()
        assert len(await publisher.restrictions()) == 1
    with pytest.raises(RuntimeError, match="not open"):
        await publisher.restrictions()


async def test_a_publisher_without_an_event_loop_moderates(two_nodes: ModeratedRooms) -> None:
    def moderate() -> list[Restriction]:
        with Publisher(two_nodes.url, prefix=two_nodes.prefix) as publisher:
            publisher.ban("bob", "lobby", seconds=60)
            publisher.mute("amy")
            publisher.ban("eve")
            publisher.unban("eve")
            publisher.mute("eve")
            publisher.unmute("eve")
            return publisher.restrictions()

    listed = await asyncio.to_thread(moderate)
    assert [each[:3] for each in listed] == [("mute", "amy", None), ("ban", "bob", "lobby")]
    assert await two_nodes.manager(1).restrictions() == listed


async def test_during_an_outage_a_ban_raises_and_is_not_applied() -> None:
    with running_redis() as server:
        async with running_rooms(server) as rooms:
            bob = await rooms.connect(0, "/lobby?user=bob")
            await rooms.manager(0).ban("eve", seconds=60)
            server.kill()
            with pytest.raises(BackendUnavailable):
                await rooms.manager(0).ban("bob")
            assert [each.user for each in await rooms.manager(0).restrictions()] == ["eve"]
            assert (await rooms.refusal(1, "/lobby?user=eve"))[0] == 4403
            await bob.send("read", {})
            assert await bob.receive() == {"type": "read"}

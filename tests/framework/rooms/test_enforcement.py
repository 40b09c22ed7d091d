"""The effect of restrictions on connections that are not accepted yet, or that only seem to be newer."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.restriction_entry import RestrictionEntry
from falcon_pachinko.rooms.enforcement import banned_text, iso_time, muted_text
from falcon_pachinko.testing import Refused

from ..support.backends import wait_until
from ..support.moderated_rooms import ModeratedRooms, Rooms, running_rooms
from ..support.redis_servers import running_redis


@pytest.fixture
async def rooms() -> AsyncIterator[ModeratedRooms]:
    async with running_rooms(None) as rooms:
        yield rooms


@pytest.mark.parametrize("room", [None, "lobby"])
async def test_a_ban_refuses_a_connection_whose_on_connect_still_runs(
    rooms: ModeratedRooms, room: str | None
) -> None:
    Rooms.may_accept.clear()
    connecting = asyncio.ensure_future(rooms.connect(0, "/lobby?user=bob"))
    await Rooms.joined.wait()
    await rooms.manager().ban("bob", room, seconds=60)
    Rooms.may_accept.set()
    with pytest.raises(Refused):
        await connecting
    assert len(rooms.manager()) == 0


async def test_a_revocation_refuses_a_connection_whose_on_connect_still_runs(
    rooms: ModeratedRooms,
) -> None:
    Rooms.may_accept.clear()
    connecting = asyncio.ensure_future(rooms.connect(0, "/lobby?user=bob&session=s1"))
    await Rooms.joined.wait()
    await rooms.manager().revoke_session("s1", seconds=60)
    Rooms.may_accept.set()
    with pytest.raises(Refused):
        await connecting


async def test_sessions_that_were_revoked_after_the_handshake_began_are_refused(
    rooms: ModeratedRooms,
) -> None:
    """As if the token had been checked before, and the connection became known here afterwards."""
    now = int(time.time() * 1000)
    ahead = RestrictionEntry("sessions\nbob\n", now, now + 60_000, now + 60_000, now + 30_000)
    rooms.manager().backend.restrictions.put(ahead)
    assert await rooms.refusal(0, "/lobby?user=bob&session=s1") == (4401, "signed out")


async def test_a_late_revocation_closes_all_but_those_who_have_signed_in_later(
    rooms: ModeratedRooms,
) -> None:
    """All three connections were opened after the revocation, of which this process had not learnt."""
    now = int(time.time() * 1000)
    old = await rooms.connect(0, f"/lobby?user=bob&session=s1&at={now / 1000 - 61}")
    new = await rooms.connect(0, f"/lobby?user=bob&session=s2&at={now / 1000 - 59}")
    unknown = await rooms.connect(0, "/lobby?user=bob&session=s3")
    entry = RestrictionEntry("sessions\nbob\n", now, now + 60_000, now + 60_000, now - 60_000)
    rooms.manager()._registry.on_restriction(entry)
    assert await old.wait_closed() == (4401, "signed out")
    assert await unknown.wait_closed() == (4401, "signed out")
    await new.send("read", {})
    assert await new.receive() == {"type": "read"}


async def test_a_session_that_began_before_its_revocation_is_refused_whenever_it_connects(
    rooms: ModeratedRooms,
) -> None:
    before = time.time()
    await rooms.manager().revoke_sessions("bob", seconds=60)
    refusal = await rooms.refusal(0, f"/lobby?user=bob&session=s1&at={before}")
    assert refusal == (4401, "signed out")
    again = await rooms.connect(0, f"/lobby?user=bob&session=s2&at={time.time() + 0.001}")
    await again.send("read", {})
    assert await again.receive() == {"type": "read"}


async def test_a_node_that_starts_during_an_outage_refuses_users_until_it_knows_who_is_banned() -> (
    None
):
    with running_redis() as server:
        async with running_rooms(server) as rooms:
            await rooms.manager(0).ban("bob", seconds=60)
            server.pause()
            try:
                await rooms.start()
                assert (await rooms.refusal(2, "/none?user=bob"))[0] == 1013
                assert (await rooms.refusal(2, "/none?user=eve"))[0] == 1013
                anonymous = await rooms.connect(2, "/none")
                await anonymous.send("read", {})
                assert await anonymous.receive() == {"type": "read"}
                with pytest.raises(BackendUnavailable, match="not been read"):
                    rooms.manager(2).is_revoked("s1", "eve", time.time())
                assert not rooms.manager(0).is_revoked("s1", "eve", time.time())
            finally:
                server.resume()
            await wait_until(lambda: rooms.manager(2).backend.restrictions.is_known)
            assert (await rooms.refusal(2, "/none?user=bob"))[0] == 4403
            eve = await rooms.connect(2, "/none?user=eve")
            await eve.send("read", {})
            assert await eve.receive() == {"type": "read"}


async def test_an_entry_that_has_ended_or_is_a_mute_closes_nothing(rooms: ModeratedRooms) -> None:
    bob = await rooms.connect(0, "/lobby?user=bob&session=s1")
    now = int(time.time() * 1000)
    for field, until in (("ban\nbob\n", 0), ("ban\nbob\n", now - 1), ("mute\nbob\n", now + 60_000)):
        rooms.manager()._registry.on_restriction(RestrictionEntry(field, 1, until, until, 0))
    await bob.send("read", {})
    assert await bob.receive() == {"type": "read"}


def test_the_texts_give_the_end_in_utc_rounded_up() -> None:
    assert iso_time(1_795_734_000.0) == "2026-11-26T23:00:00Z"
    assert banned_text(1_795_733_999.001) == "You are banned until 2026-11-26T23:00:00Z."
    assert muted_text(1_795_733_999.001) == "You are muted until 2026-11-26T23:00:00Z."

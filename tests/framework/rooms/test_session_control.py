"""Revoked sessions and tickets, on one process and on two nodes over Redis, from sockets."""

import asyncio
import time

import pytest

from falcon_pachinko.backends.restriction_table import RestrictionTable

from ..support.moderated_rooms import ModeratedRooms

pytestmark = pytest.mark.redis


async def test_a_revoked_session_loses_its_connections_and_opens_no_other(
    rooms: ModeratedRooms,
) -> None:
    tabs = [await rooms.connect(number, "/lobby?user=bob&session=s1") for number in (0, 1)]
    other = await rooms.connect(1, "/lobby?user=bob&session=s2")
    async with asyncio.timeout(1.0):
        await rooms.manager(0).revoke_session("s1", seconds=60)
    assert [await tab.wait_closed() for tab in tabs] == [(4401, "signed out")] * 2
    refusal = await rooms.refusal(1, "/lobby?user=bob&session=s1")
    assert refusal == (4401, "signed out")
    await other.send("read", {})
    assert await other.receive() == {"type": "read"}
    for number in (0, 1):
        assert rooms.manager(number).is_revoked("s1", "bob", time.time())
        assert not rooms.manager(number).is_revoked("s2", "bob", 0.0)
        assert not rooms.manager(number).is_revoked(None, None, 0.0)
    assert await rooms.manager(0).restrictions() == []


async def test_all_sessions_of_a_user_are_revoked_and_a_later_one_is_not(
    rooms: ModeratedRooms,
) -> None:
    issued_at = time.time()
    bobs = [await rooms.connect(number, f"/lobby?user=bob&session=s{number}") for number in (0, 1)]
    alice = await rooms.connect(1, "/lobby?user=alice&session=s3")
    await rooms.manager(1).revoke_sessions("bob", seconds=60)
    assert [await bob.wait_closed() for bob in bobs] == [(4401, "signed out")] * 2
    for number in (0, 1):
        assert rooms.manager(number).is_revoked("s9", "bob", issued_at)
        assert not rooms.manager(number).is_revoked("s9", "bob", time.time() + 0.001)
        assert not rooms.manager(number).is_revoked("s9", "alice", issued_at)
    again = await rooms.connect(0, "/lobby?user=bob&session=s4")
    await again.send("read", {})
    assert await again.receive() == {"type": "read"}
    await alice.send("read", {})
    assert await alice.receive() == {"type": "read"}


async def test_a_revocation_outlives_the_last_token_by_a_minute_for_clocks_that_are_behind(
    rooms: ModeratedRooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, began_at = rooms.manager(0), time.time()
    await manager.revoke_session("s1", seconds=60)
    await manager.revoke_sessions("bob", seconds=60)
    for seconds, expected in ((119, True), (125, False)):
        later = round((began_at + seconds) * 1000)
        monkeypatch.setattr(RestrictionTable, "now", later)
        assert manager.is_revoked("s1", "eve", began_at) is expected
        assert manager.is_revoked("s2", "bob", began_at) is expected


async def test_a_wrong_argument_changes_nothing(rooms: ModeratedRooms) -> None:
    manager = rooms.manager(0)
    for session in ("", "a\nb", "x" * 300):
        with pytest.raises(ValueError, match="the session id"):
            await manager.revoke_session(session, seconds=60)
    with pytest.raises(ValueError, match="the user"):
        await manager.revoke_sessions("", seconds=60)
    with pytest.raises(ValueError, match="seconds is -1"):
        await manager.revoke_sessions("bob", seconds=-1)
    assert not manager.backend.restrictions


async def test_a_ticket_is_redeemed_once(rooms: ModeratedRooms) -> None:
    ticket = await rooms.manager(0).issue_ticket("alice")
    assert await rooms.manager(1).redeem_ticket(ticket) == "alice"
    assert await rooms.manager(0).redeem_ticket(ticket) is None

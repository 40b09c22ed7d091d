"""The refresh of a session in its connection, on real servers."""

import asyncio
import logging
import time
from typing import Any

import pytest

from falcon_pachinko import Limits, ProviderUnavailable, WebSocketLike
from falcon_pachinko.rooms.refresh import is_same_user

from ..support.servers import RECEIVING_SERVERS
from ..support.signed_in import Hall, NamedUser, User, signed_in, user

REFRESH = "clientRefreshSession"
LONG_TOKEN = "x" * 8193


def refreshed(seconds: int | None) -> dict[str, Any]:
    return {"type": "serverSessionRefreshed", "payload": {"expiresInSeconds": seconds}}


@pytest.mark.parametrize("server", RECEIVING_SERVERS)
async def test_refresh_replaces_the_session_and_keeps_the_connection(server: str) -> None:
    async with signed_in(
        server=server, t=user(seconds=120, sid="one"), next=user(seconds=3600, sid="two")
    ) as world:
        alice = await world.connect()
        await alice.send("say", {"number": 1})
        await alice.send(REFRESH, {"token": "next"})
        await alice.send("say", {"number": 2})
        messages = [await alice.receive() for _ in range(3)]
        seconds = messages[1]["payload"]["expiresInSeconds"]
        assert messages == [
            {"type": "said", "payload": {"number": 1}},
            refreshed(seconds),
            {"type": "said", "payload": {"number": 2}},
        ]
        assert 3500 < seconds < 3600
        connection, new = world.connection, world.users["next"]
        assert connection.identity is new
        assert (connection.user, connection.session_id) == ("u1", "two")
        assert connection.expires_at == new.expires_at


async def test_session_without_an_end_is_refreshed_to_none() -> None:
    async with signed_in(t=user(seconds=60), next=user()) as world:
        alice = await world.connect()
        await alice.send(REFRESH, {"token": "next"})
        assert await alice.receive() == refreshed(None)
        assert world.connection.expires_at is None


async def test_refreshed_connection_outlives_its_first_session() -> None:
    async with signed_in(next=user(seconds=3600)) as world:
        world.users["t"] = user(seconds=1.5)
        alice = await world.connect()
        assert (await alice.receive())["type"] == "serverSessionExpiring"
        await alice.send(REFRESH, {"token": "next"})
        assert (await alice.receive())["type"] == "serverSessionRefreshed"
        await asyncio.sleep(2.0)  # the end of the first session has no other effect to wait for
        await alice.send("say")
        assert (await alice.receive())["type"] == "said"


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (None, "the token is not valid"),
        (user("u2"), "the token is of another user"),
        (NamedUser("Alice"), "the token is of another user"),
        (user(seconds=-1), "your session has expired"),
    ],
    ids=["invalid", "another", "without id", "expired"],
)
async def test_token_that_does_not_continue_the_session_closes_with_4401(
    new: Any, reason: str
) -> None:
    async with signed_in(t=user(seconds=60), next=new) as world:
        alice = await world.connect()
        await alice.send(REFRESH, {"token": "next"})
        assert await alice.wait_closed() == (4401, reason)
        await world.wait_until(lambda: world.events == [("left", 4401)])


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize(
    ("restrict", "code"),
    [
        (lambda manager: manager.ban("u1", seconds=60), 4403),
        (lambda manager: manager.revoke_session("two", seconds=60), 4401),
        (lambda manager: manager.revoke_sessions("u1", seconds=60), 4401),
    ],
    ids=["ban", "session", "all sessions"],
)
async def test_refresh_to_a_banned_user_or_a_revoked_session_closes(
    when: str, restrict: Any, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applied without notice, so that the refresh alone closes the connection: as if it had come in between."""
    applied = False

    async def apply() -> None:
        nonlocal applied
        manager = world.app.ws_connection_manager
        with monkeypatch.context() as patch:
            patch.setattr(manager.backend.node, "on_restriction", lambda entry: None)
            await restrict(manager)
        applied = True

    class Asking(Hall):
        async def authorize(self, user: Any, action: str, room: str | None) -> bool:
            if user.session_id == "two" and not applied:
                await apply()
            return True

    new = User("u1", session_id="two", signed_in_at=time.time())
    async with signed_in(Asking, t=user(), next=new) as world:
        alice = await world.connect("/hall?token=t&room=lobby")
        if when == "before":
            await apply()
        await alice.send(REFRESH, {"token": "next"})
        assert (await alice.wait_closed())[0] == code
        assert applied


async def test_anonymous_connection_is_not_signed_in_by_a_refresh() -> None:
    async with signed_in(t=None, next=user()) as world:
        alice = await world.connect()
        await alice.send(REFRESH, {"token": "next"})
        assert await alice.wait_closed() == (4401, "the token is of another user")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (User("1", "A"), User("1", "B"), True),
        (User("1", "A"), User("2", "A"), False),
        (NamedUser("A"), NamedUser("A"), True),
        (NamedUser("A"), NamedUser("B"), False),
        (User("1", "A"), NamedUser("A"), False),
        (None, None, False),
        (object(), object(), False),
    ],
    ids=["one id", "two ids", "one name", "two names", "id and name", "nobody", "others"],
)
def test_users_are_compared_by_id_or_else_by_name(one: Any, other: Any, expected: bool) -> None:
    assert is_same_user(one, other) is expected


async def test_provider_that_is_unavailable_keeps_the_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with signed_in(t=user(seconds=60), next=ProviderUnavailable("no route to host")) as world:
        alice = await world.connect()
        await alice.send(REFRESH, {"token": "next"})
        error = await alice.receive()
        assert (error["type"], error["payload"]["code"]) == ("serverError", "unavailable")
        assert world.connection.expires_at == world.users["t"].expires_at
        await alice.send("say")
        assert (await alice.receive())["type"] == "said"
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "a session was not refreshed: no route to host" in warnings


async def test_provider_that_hangs_is_cancelled_and_blocks_no_later_message() -> None:
    class Impatient(Hall):
        limits = Limits(handler_seconds=0.2)

    async def hang() -> Any:
        await asyncio.Event().wait()

    async with signed_in(Impatient, t=user(seconds=60), next=hang) as world:
        alice = await world.connect()
        await alice.send(REFRESH, {"token": "next"})
        await alice.send("say")
        assert (await alice.receive())["payload"]["code"] == "timeout"
        assert (await alice.receive())["type"] == "said"
        assert world.connection.expires_at == world.users["t"].expires_at


async def test_session_ends_during_a_refresh_that_hangs() -> None:
    class Patient(Hall):
        limits = Limits(close_seconds=0.2)

    async def hang() -> Any:
        await asyncio.Event().wait()

    async with signed_in(Patient, next=hang) as world:
        world.users["t"] = user(seconds=1.5)
        alice = await world.connect()
        await alice.send(REFRESH, {"token": "next"})
        assert (await alice.receive())["type"] == "serverSessionExpiring"
        assert await alice.wait_closed() == (4401, "your session has expired")


@pytest.mark.parametrize(
    "payload", [None, {}, {"token": ""}, {"token": 5}, {"token": LONG_TOKEN}], ids=str
)
async def test_token_that_is_not_a_bounded_text_is_an_invalid_payload(payload: Any) -> None:
    async with signed_in(t=user(seconds=60)) as world:
        alice = await world.connect()
        await alice.send(REFRESH, payload)
        error = (await alice.receive())["payload"]
        assert error["code"] == "invalidPayload"
        assert LONG_TOKEN not in error["error"]


async def test_without_authenticate_the_refresh_is_an_unknown_message() -> None:
    class Open(Hall):
        async def on_unhandled(self, ws: WebSocketLike, message: str | bytes) -> None:
            self.events.append(message)
            await super().on_unhandled(ws, message)

    async with signed_in(Open, refreshes=False, t=user(seconds=60)) as world:
        alice = await world.connect()
        await alice.send_raw('{"type": "clientRefreshSession", "payload": {"token": "t"}}')
        assert (await alice.receive())["payload"]["code"] == "unknownMessage"
        assert world.events == ['{"type": "clientRefreshSession", "payload": {"token": "t"}}']


async def test_refresh_authorises_each_room_again_with_the_new_identity() -> None:
    class Staff(Hall):
        async def authorize(self, user: Any, action: str, room: str | None) -> bool:
            self.events.append((action, room, sorted(user.roles)))
            return room != "staff" or "staff" in user.roles

    async with signed_in(
        Staff,
        t=user(seconds=60, roles="staff"),
        next=user(seconds=60, roles="staff guest"),
        last=user(seconds=60),
    ) as world:
        alice = await world.connect("/hall?token=t&room=lobby&room=staff")
        await alice.send(REFRESH, {"token": "next"})
        assert (await alice.receive())["type"] == "serverSessionRefreshed"
        await alice.send(REFRESH, {"token": "last"})
        assert await alice.wait_closed() == (4403, "You may not join this room.")
        await world.wait_until(lambda: ("left", 4403) in world.events)
        assert world.events == [
            ("join", "lobby", ["staff"]),
            ("join", "staff", ["staff"]),
            ("join", "lobby", ["guest", "staff"]),
            ("join", "staff", ["guest", "staff"]),
            ("join", "lobby", []),
            ("join", "staff", []),
            ("left", 4403),
        ]

"""The identity of a connection, and its end with its session, on real servers."""

import math
import time
from types import SimpleNamespace
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import Connection, Limits, WebSocketLike
from falcon_pachinko.connection.identity import sign_in_time_of

from ..support.servers import SERVERS
from ..support.signed_in import Hall, NamedUser, User, signed_in, user

EXPIRED = (4401, "your session has expired")
SOON_SECONDS = 1.5


async def test_identity_with_an_id_sets_the_user_and_the_session() -> None:
    alice = user(seconds=60, sid="first")
    async with signed_in(t=alice) as world:
        await world.connect()
        await world.wait_until(lambda: len(world.app.ws_connection_manager) == 1)
        connection = world.connection
        assert connection.identity is alice
        assert (connection.user, connection.session_id) == ("u1", "first")
        assert connection.expires_at == alice.expires_at


@pytest.mark.parametrize(
    "identity",
    [NamedUser("Alice"), "Alice", None, User(7, session_id="s", expires_at=1.0)],
    ids=["name", "text", "nobody", "number"],
)
async def test_identity_without_a_textual_id_sets_nothing_else(identity: Any) -> None:
    async with signed_in(t=identity) as world:
        await world.connect()
        await world.wait_until(lambda: len(world.app.ws_connection_manager) == 1)
        connection = world.connection
        assert connection.identity is identity
        assert (connection.user, connection.session_id, connection.expires_at) == (None, None, None)


def test_time_of_the_sign_in_is_a_number_or_unknown() -> None:
    assert sign_in_time_of(SimpleNamespace(signed_in_at=5)) == 5
    assert sign_in_time_of(SimpleNamespace(signed_in_at=None)) is None
    assert sign_in_time_of(None) is None
    for wrong in ("5", True, math.nan, math.inf):
        with pytest.raises(TypeError, match="signed_in_at is"):
            sign_in_time_of(SimpleNamespace(signed_in_at=wrong))


@pytest.mark.parametrize("server", SERVERS)
async def test_client_is_notified_and_closed_at_the_end_of_its_session(server: str) -> None:
    async with signed_in(server=server) as world:
        world.users["t"] = user(seconds=SOON_SECONDS)
        at = world.users["t"].expires_at
        alice = await world.connect()
        notice = await alice.receive()
        assert notice["type"] == "serverSessionExpiring"
        assert notice["payload"]["expiresInSeconds"] in (0, 1)
        assert await alice.wait_closed() == EXPIRED
        assert 0 <= time.time() - at < 1.0
        await world.wait_until(lambda: world.events == [("left", 4401)])


@pytest.mark.parametrize("server", SERVERS)
async def test_busy_handler_does_not_delay_the_end_of_the_session(server: str) -> None:
    class Busy(Hall):
        limits = Limits(close_seconds=0.2)

    async with signed_in(Busy, server=server) as world:
        world.users["t"] = user(seconds=SOON_SECONDS)
        at = world.users["t"].expires_at
        alice = await world.connect()
        await alice.send("hang")
        await world.wait_until(lambda: world.events == ["busy"])
        assert (await alice.receive())["type"] == "serverSessionExpiring"
        assert await alice.wait_closed() == EXPIRED
        assert 0 <= time.time() - at < 1.0
        await world.wait_until(lambda: world.events == ["busy", ("left", 4401)])


async def test_session_that_ends_before_the_connection_is_accepted_closes_with_4401() -> None:
    async with signed_in(t=user(seconds=-1.0)) as world:
        alice = await world.connect("/hall?token=t&room=lobby")
        assert await alice.wait_closed() == EXPIRED
        await world.wait_until(lambda: not world.app.ws_connection_manager._registry.pending)
        assert world.events == []


async def test_wall_clock_that_jumps_ends_the_sessions_that_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with signed_in(t=user(seconds=3600.0)) as world:
        alice = await world.connect()
        await alice.send("say")
        assert (await alice.receive())["type"] == "said"
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 3600.0)
        assert await alice.wait_closed(timeout_seconds=2.0) == EXPIRED


async def test_code_sets_moves_and_removes_the_end_of_a_session() -> None:
    class Clock(Hall):
        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
        ) -> bool:
            self.connection.expires_at = time.time() + 3600.0
            return True

    async with signed_in(Clock, t=None) as world:
        alice = await world.connect()
        await world.wait_until(lambda: len(world.app.ws_connection_manager) == 1)
        connection = world.connection
        connection.expires_at = time.time() + 20.0
        assert (await alice.receive())["payload"]["expiresInSeconds"] in (18, 19)
        connection.expires_at = time.time() - 1.0
        connection.expires_at = None
        assert connection.expires_at is None
        await alice.send("say")
        assert (await alice.receive())["type"] == "said"


@pytest.mark.parametrize(
    ("at", "error"),
    [
        ("soon", TypeError),
        (True, TypeError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
    ],
    ids=str,
)
def test_end_of_a_session_is_a_finite_number(at: Any, error: type[Exception]) -> None:
    async def never(*args: Any) -> Any: ...

    connection = Connection(never, never)
    with pytest.raises(error, match="expires_at is"):
        connection.expires_at = at
    assert connection.expires_at is None

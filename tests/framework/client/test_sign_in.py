"""Tokens of handshakes and the refresh of a session, in a simulation."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from falcon_pachinko.client.client import fetcher_of
from falcon_pachinko.client.machine import Machine
from falcon_pachinko.client.options import Options
from falcon_pachinko.client.sign_in import reason_of
from falcon_pachinko.client.sockets import AsyncioPlatform
from falcon_pachinko.client.status import State

from .simulation import Simulation

EXPIRING = {"type": "serverSessionExpiring", "payload": {"expiresInSeconds": 30}}
UNAVAILABLE = {"type": "serverError", "payload": {"code": "unavailable", "error": "Later."}}


class SignedIn:
    """A machine whose tokens the test gives."""

    def __init__(self, **options: float) -> None:
        self.simulation = Simulation()
        self.calls: list[Callable[[str | Exception | None], None]] = []
        self.received: list[Any] = []
        given: Any = {"base_delay_seconds": 0.1, **options}
        self.machine = Machine(
            "ws://server.test/room",
            Options(**given),
            self.simulation,
            client_id="a" * 32,
            fetch_token=self.calls.append,
        )
        self.machine.on_message_received = self.received.append
        self.machine.start()

    def open(self) -> None:
        self.calls[-1]("token 0")
        self.simulation.socket.open()

    @property
    def sent(self) -> list[Any]:
        return [json.loads(text)["payload"]["token"] for text in self.simulation.socket.sent]


def test_each_handshake_has_a_token_of_its_own() -> None:
    run = SignedIn()
    assert run.simulation.sockets == []
    run.calls[0]("one")
    assert run.simulation.socket.headers == {"Authorization": "Bearer one"}
    run.simulation.socket.open()
    run.simulation.socket.end(1006)
    run.machine.retry_now()
    run.calls[1]("two")
    assert run.simulation.socket.headers == {"Authorization": "Bearer two"}


def test_a_token_that_cannot_be_fetched_is_a_failed_attempt() -> None:
    run = SignedIn()
    for wait_seconds in (0.05, 0.1, 0.2):
        run.calls[-1](OSError("no network"))
        assert run.machine.status.reason == "token: no network"
        assert run.simulation.timers[0].at - run.simulation.now == pytest.approx(wait_seconds)
        run.simulation.pass_time(wait_seconds)
    assert len(run.calls) == 4
    run.calls[-1](None)
    assert (run.machine.state, run.machine.status.code) == (State.CLOSED, 4401)
    assert run.simulation.timers == []


def test_a_late_token_is_ignored() -> None:
    run = SignedIn(connect_timeout_seconds=0.7)
    run.simulation.pass_time(0.7)
    run.calls[0]("late")
    assert (run.machine.state, run.simulation.sockets) == (State.WAITING, [])
    assert run.machine.status.reason == "token: no result in time"
    run.machine.close()
    run.calls[0]("later")
    assert (run.machine.state, run.simulation.sockets) == (State.CLOSED, [])


def test_a_session_is_refreshed_over_the_open_connection() -> None:
    run = SignedIn()
    run.open()
    run.simulation.socket.receive(EXPIRING)
    run.calls[-1]("new")
    assert run.sent == ["new"]
    run.simulation.socket.receive({"type": "serverSessionRefreshed", "payload": {}})
    assert (run.simulation.timers, run.received, len(run.simulation.sockets)) == ([], [], 1)


def test_a_failed_refresh_is_repeated_until_the_session_expires() -> None:
    run = SignedIn(base_delay_seconds=2)
    run.open()
    run.simulation.socket.receive(EXPIRING)
    for wait_seconds in (1, 2, 4, 8):
        run.calls[-1](OSError("no network"))
        run.simulation.pass_time(wait_seconds)
    assert len(run.calls) == 6
    run.calls[-1](OSError("no network"))
    assert (run.simulation.timers, run.machine.state) == ([], State.OPEN)


def test_a_server_that_cannot_check_the_token_is_asked_again() -> None:
    run = SignedIn()
    run.open()
    run.simulation.socket.receive(UNAVAILABLE)
    assert len(run.received) == 1
    run.simulation.socket.receive(EXPIRING)
    run.calls[-1]("new")
    run.simulation.socket.receive(UNAVAILABLE)
    run.simulation.pass_time(0.1)
    run.calls[-1]("newer")
    assert (run.sent, len(run.received)) == (["new", "newer"], 1)


def test_a_refresh_ends_with_its_connection_or_without_a_session() -> None:
    run = SignedIn()
    run.open()
    run.simulation.socket.receive(EXPIRING)
    run.calls[-1](None)
    assert (run.sent, run.simulation.timers) == ([], [])
    run.simulation.socket.receive(EXPIRING)
    late = run.calls[-1]
    run.simulation.socket.end(1012)
    run.machine.retry_now()
    run.open()
    late("for the earlier connection")
    assert (run.sent, run.simulation.timers) == ([], [])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (OSError("no network"), "token: no network"),
        (b"bytes", "token: token() returned bytes, not str or None"),
        ("a\nb", "token: token() returned a text that a header cannot have"),
        (None, "token: TimeoutError"),
    ],
)
async def test_a_token_that_fails_is_logged_and_a_hanging_call_ends(
    wrong: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    platform, results = AsyncioPlatform(1_000), list[Any]()

    async def token() -> Any:
        if isinstance(wrong, Exception):
            raise wrong
        if wrong is None:
            await asyncio.Event().wait()
        return wrong

    fetcher_of(platform, token, 0.05)(results.append)
    async with asyncio.timeout(5):
        await asyncio.gather(*platform.tasks)
        await platform.aclose()
    [error] = results
    assert reason_of(error) == reason
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.exc_info is not None
    assert record.exc_info[1] is error

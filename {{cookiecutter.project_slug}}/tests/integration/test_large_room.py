"""A room with more users than a list has names; here a list has five."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec import UNSET

from falcon_pachinko.messages import ServerPosition
from falcon_pachinko.presence import ServerPresenceChanged
from falcon_pachinko.testing import Client, Running
from falcon_pachinko.testing.fixtures import OpenClient, RunApp

from {{ cookiecutter.package_name }} import app
from {{ cookiecutter.package_name }}.messages import (
    RoomUser,
    ServerRoomState,
    ServerUserJoined,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..conftest import HeadersOf, MakeSettings

    Enter = Callable[[str], Awaitable[tuple[Client, ServerRoomState]]]

pytestmark = pytest.mark.slow

MAX_USERS = 5


@pytest.fixture
async def chat(
    run_app: RunApp, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> Running:
    """The service with short lists and a short grace period."""
    package = app.__name__.partition(".")[0]
    for module in ("app", "resources.{{ cookiecutter.__resource_module }}"):
        monkeypatch.setattr(f"{package}.{module}.MAX_USERS", MAX_USERS)
    return await run_app(app.create_app(make_settings(presence_grace_seconds=0.05)))


@pytest.fixture
def enter(
    chat: Running, open_client: OpenClient, headers_of: HeadersOf, websocket_path: str, room: str
) -> Enter:
    """Connect a user to the room, and return the room's state."""

    async def enter(name: str) -> tuple[Client, ServerRoomState]:
        client = await open_client(chat, f"{websocket_path}/{room}", headers=headers_of(name))
        await client.receive()
        state = await client.receive(ServerRoomState)
        await client.receive(ServerPosition)
        return client, state

    return enter


def users_of(*names: str) -> list[RoomUser]:
    """Return users whose names are their ids, too."""
    return [RoomUser(name, name) for name in names]


def shown(name: str) -> dict[str, str]:
    """Return such a user in a batch."""
    return {"user": name, "userId": name}


async def test_a_small_room_sends_all_names_and_announces_each_user(enter: Enter) -> None:
    alice, state = await enter("Alice")
    assert state == ServerRoomState(
        users=users_of("Alice"), you=RoomUser("Alice", "Alice"), count=1
    )
    for number in range(2, MAX_USERS + 1):
        _, state = await enter(f"user {number}")
        assert await alice.receive(ServerUserJoined) == ServerUserJoined(
            user=f"user {number}", user_id=f"user {number}"
        )
    assert state.users == users_of("Alice", "user 2", "user 3", "user 4", "user 5")
    assert (state.count, state.truncated) == (MAX_USERS, UNSET)


async def test_a_large_room_sends_its_first_names_and_announces_changes_together(
    enter: Enter,
) -> None:
    alice, _ = await enter("Alice")
    clients = [(await enter(f"user {number}"))[0] for number in range(2, MAX_USERS + 1)]
    for number in range(1, 4):
        client, state = await enter(f"late {number}")
        clients.append(client)
        assert state.users == users_of("Alice", "user 2", "user 3", "user 4", f"late {number}")
        assert (state.count, state.truncated) == (MAX_USERS + number, True)
    change, *_ = await changes_until(alice, MAX_USERS + 3)
    assert change.joined[0] == shown("late 1")
    assert change.users is UNSET

    for client in clients[:4]:
        client.vanish()
    *_, change = await changes_until(alice, MAX_USERS - 1)
    assert change.users == [shown(name) for name in ("Alice", "late 1", "late 2", "late 3")]
    _, state = await enter("user 2")
    assert state.users == users_of("Alice", "late 1", "late 2", "late 3", "user 2")
    assert (state.count, state.truncated) == (MAX_USERS, UNSET)
    assert await alice.receive(ServerUserJoined) == ServerUserJoined(
        user="user 2", user_id="user 2"
    )


async def test_every_client_gets_the_number_of_users(enter: Enter) -> None:
    clients = [(await enter(f"user {number}"))[0] for number in range(1, MAX_USERS + 6)]
    for client in clients:
        *_, change = await changes_until(client, MAX_USERS + 5)
        assert change.joined[-1] == shown(f"user {MAX_USERS + 5}")


async def test_a_second_tab_is_not_counted(enter: Enter) -> None:
    for number in range(1, MAX_USERS + 3):
        await enter(f"user {number}")
    for name in ("user 1", f"user {MAX_USERS + 2}"):
        _, state = await enter(name)
        assert state.count == MAX_USERS + 2
        assert state.users[-1] == RoomUser(name, name)
        assert len(set(state.users)) == MAX_USERS


async def changes_until(client: Client, count: int) -> list[ServerPresenceChanged]:
    """Return the changes up to the one with a number of users."""
    found: list[ServerPresenceChanged] = []
    while not found or found[-1].count != count:
        *_, change = await client.receive_until(ServerPresenceChanged)
        found.append(change)
    return found

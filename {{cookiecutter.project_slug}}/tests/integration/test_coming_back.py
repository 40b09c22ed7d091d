"""Who comes back in time: nobody hears of it, and nothing is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from falcon_pachinko.messages import ServerPosition
from falcon_pachinko.testing import Running
from falcon_pachinko.testing.fixtures import OpenClient

from {{ cookiecutter.package_name }} import auth
from {{ cookiecutter.package_name }}.messages import (
    SendMessage,
    ServerNewMessage,
    ServerUserJoined,
)

if TYPE_CHECKING:
    from ..conftest import Join


async def test_a_second_tab_and_a_reload_in_time_are_silent(join: Join) -> None:
    bob, alice = await join("Bob"), await join("Alice")
    await bob.receive(ServerUserJoined)
    tab = await join("Alice")
    alice.vanish()
    await tab.close()
    reloaded = await join("Alice")
    await reloaded.send("clientSendMessage", SendMessage(text="I am here"))
    assert await bob.receive_until(ServerNewMessage) == [
        ServerNewMessage(user="Alice", text="I am here")
    ]


async def test_who_comes_back_is_given_what_it_missed(
    join: Join,
    chat: Running,
    open_client: OpenClient,
    websocket_path: str,
    room: str,
    secret: str,
) -> None:
    alice, bob = await join("Alice"), await join("Bob")
    await alice.receive(ServerUserJoined)
    await alice.send("clientSendMessage", SendMessage(text="heard"))
    heard = await bob.receive()
    bob.vanish()
    for text in ("one", "two"):
        await alice.send("clientSendMessage", SendMessage(text=text))
        await alice.receive_until(ServerNewMessage)
    token = auth.issue_token(auth.User("Bob"), secret, lifetime_seconds=60)
    back = await open_client(
        chat,
        f"{websocket_path}/{room}?since={heard['id']}",
        cookies={auth.COOKIE_NAME: token},
    )
    missed = await back.receive_until(ServerPosition)
    said = [each["payload"] for each in missed[:-1] if each["type"] == "serverNewMessage"]
    assert said == [{"user": "Alice", "text": "one"}, {"user": "Alice", "text": "two"}]
    assert missed[-1].recovered is True

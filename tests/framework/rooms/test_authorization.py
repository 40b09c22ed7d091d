"""The hook ``authorize``: at a join and before handlers with an action, on a real server."""

from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import (
    Forbidden,
    RegistrationError,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.handlers import HandlerTable

from ..support.signed_in import Hall, signed_in, user


class Guarded(Hall):
    """A resource that permits what the roles of the user list, and records the questions."""

    async def authorize(self, user: Any, action: str, room: str | None) -> bool:
        self.events.append((action, room))
        if action == "own":
            raise Forbidden("Ask a moderator.", code="askFirst")
        return f"{action}-{room}" in user.roles

    @handles_message("send", action="send")
    async def send(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.events.append("sent")
        await ws.send_media({"type": "said", "payload": payload})

    @handles_message("own", action="own")
    async def own(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.events.append("never")

    @handles_message("enter")
    async def enter(self, ws: WebSocketLike, payload: dict[str, str]) -> None:
        await self.join_room(payload["room"])


def error(code: str, text: str) -> dict[str, Any]:
    return {"type": "serverError", "payload": {"code": code, "error": text}}


async def test_refused_join_in_on_connect_closes_with_4403_before_any_message() -> None:
    async with signed_in(Guarded, t=user(roles="join-lobby")) as world:
        alice = await world.connect("/hall?token=t&room=lobby&room=staff")
        assert await alice.wait_closed() == (4403, "You may not join this room.")
        registry = world.app.ws_connection_manager._registry
        await world.wait_until(lambda: not registry.pending)
        assert world.events == [("join", "lobby"), ("join", "staff")]
        assert registry.synced.members_by_room == {}


async def test_refused_join_in_a_handler_is_an_error_reply() -> None:
    async with signed_in(Guarded, t=user(roles="join-lobby")) as world:
        alice = await world.connect()
        await alice.send("enter", {"room": "staff"})
        assert await alice.receive() == error("forbidden", "You may not join this room.")
        await alice.send("enter", {"room": "lobby"})
        await alice.send("say")
        assert (await alice.receive())["type"] == "said"
        assert list(world.app.ws_connection_manager._registry.synced.members_by_room) == ["lobby"]


async def test_invalid_room_name_is_never_authorised() -> None:
    async with signed_in(Guarded, t=user()) as world:
        alice = await world.connect()
        await alice.send("enter", {"room": ""})
        assert (await alice.wait_closed())[0] == 4400
        assert ("join", "") not in world.events


async def test_handler_with_an_action_runs_if_each_room_permits_it() -> None:
    roles = "join-a join-b send-a send-b"
    async with signed_in(Guarded, t=user(roles=roles)) as world:
        alice = await world.connect("/hall?token=t&room=a&room=b")
        await alice.send("send")
        assert (await alice.receive())["type"] == "said"
        assert world.events[2:] == [("send", "a"), ("send", "b"), "sent"]


async def test_handler_whose_action_one_room_refuses_does_not_run() -> None:
    async with signed_in(Guarded, t=user(roles="join-a join-b send-a")) as world:
        alice = await world.connect("/hall?token=t&room=a&room=b")
        await alice.send("send")
        assert await alice.receive() == error("forbidden", "You may not do this.")
        assert world.events[2:] == [("send", "a"), ("send", "b")]


async def test_action_of_a_connection_without_a_room_is_authorised_once_without_one() -> None:
    async with signed_in(Guarded, t=user(roles="send-None")) as world:
        alice = await world.connect()
        await alice.send("send")
        assert (await alice.receive())["type"] == "said"
        assert world.events == [("send", None), "sent"]


async def test_authorize_may_refuse_with_a_text_of_its_own() -> None:
    async with signed_in(Guarded, t=user()) as world:
        alice = await world.connect()
        await alice.send("own")
        assert await alice.receive() == error("askFirst", "Ask a moderator.")


async def test_authorize_that_returns_nothing_refuses_and_warns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Forgetful(Hall):
        async def authorize(  # type: ignore[override]
            self, user: Any, action: str, room: str | None
        ) -> None: ...

    async with signed_in(Forgetful, t=user()) as world:
        alice = await world.connect("/hall?token=t&room=a")
        assert (await alice.wait_closed())[0] == 4403
    assert "Forgetful.authorize returned None: return True to allow" in caplog.text


def test_only_handlers_with_an_action_are_wrapped() -> None:
    table = HandlerTable(Guarded)
    handlers = [each.handler for each in table.entries.values()]
    assert Guarded.enter in handlers
    assert Guarded.say in handlers
    assert Guarded.send not in handlers
    assert table.by_type["send"] is Guarded.send


@pytest.mark.parametrize("action", ["", "  ", 5, ["send"]], ids=repr)
def test_action_is_checked_when_the_handler_is_marked(action: Any) -> None:
    with pytest.raises(RegistrationError, match="action="):
        handles_message("say", action=action)


def test_authorize_must_be_a_coroutine_function() -> None:
    class Sync(WebSocketResource):
        def authorize(  # type: ignore[override]
            self, user: Any, action: str, room: str | None
        ) -> bool:
            return True

    app = install(falcon.asgi.App())
    with pytest.raises(RegistrationError, match=r"Sync\.authorize must be a coroutine function"):
        app.add_websocket_route("/", Sync)


async def test_name_of_a_handler_with_an_action_is_that_of_its_method() -> None:
    wrapped = [
        each.handler
        for each in HandlerTable(Guarded).entries.values()
        if "send" in str(each.handler)
    ]
    assert [each.__qualname__ for each in wrapped] == ["Guarded.send"]

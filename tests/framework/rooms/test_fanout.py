"""The fan-out of a room is built once per change of membership, and respects exclusions."""

from typing import Any

import falcon.asgi

from falcon_pachinko import WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.testing import run


class Hall(WebSocketResource):
    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.connection.user = name
        await self.join_room("hall")
        return True

    @handles_message("post")
    async def post(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("hall", {"type": "posted", "payload": payload}, **payload)

    @handles_message("move")
    async def move(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.leave_room("hall")
        await self.join_room("lobby")
        await ws.send_media({"type": "moved"})


async def test_a_fanout_is_built_again_only_after_a_change_of_membership() -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/{name}", Hall)
    fanouts = app.ws_connection_manager._registry.fanouts
    async with run(app) as running, running.connect("/alice") as alice:
        await alice.send("post")
        assert await alice.receive() == {"type": "posted", "payload": {}}
        first = fanouts["hall"]
        await alice.send("post")
        await alice.receive()
        assert fanouts["hall"] is first
        async with running.connect("/bob") as bob:
            await bob.send("post")
            assert await alice.receive() == await bob.receive() == {"type": "posted", "payload": {}}
            assert fanouts["hall"] is not first
            second = fanouts["hall"]
            await bob.send("move")
            assert await bob.receive() == {"type": "moved"}
            await alice.send("post")
            await alice.receive()
            assert fanouts["hall"] is not second
            assert "lobby" not in fanouts  # no message was sent there


async def test_an_excluded_connection_receives_nothing() -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/{name}", Hall)
    async with (
        run(app) as running,
        running.connect("/alice") as alice,
        running.connect("/bob") as bob,
    ):
        await alice.send("post", {"exclude_self": True})
        await alice.send("post", {"exclude_user": True})
        await alice.send("post")
        assert (await alice.receive())["payload"] == {}
        received = [(await bob.receive())["payload"] for _ in range(3)]
        assert received == [{"exclude_self": True}, {"exclude_user": True}, {}]

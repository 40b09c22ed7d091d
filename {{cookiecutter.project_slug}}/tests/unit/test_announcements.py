"""Announcements to rooms while Redis becomes unavailable; see also ``test_workers.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import falcon.asgi
import pytest

from falcon_pachinko import BackendUnavailable, WebSocketLike, WebSocketResource, install
from falcon_pachinko.backends.memory import MemoryBackend

from {{ cookiecutter.package_name }}.announcements import (
    PartialAnnouncement,
    announce_to_rooms,
)
from {{ cookiecutter.package_name }}.messages import ServerSystemAnnouncement

if TYPE_CHECKING:
    from falcon_pachinko.testing.fixtures import OpenClient, RunApp


class EndingBackend(MemoryBackend):
    """A backend that becomes unavailable after some messages."""

    remaining = 0

    def publish_nowait(self, *args: Any, **options: Any) -> Any:
        if self.remaining == 0:
            raise BackendUnavailable("the network is down")
        self.remaining -= 1
        return super().publish_nowait(*args, **options)


class Hall(WebSocketResource):
    """Accept every client into the room in the path."""

    sends = (ServerSystemAnnouncement,)

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, room: str) -> bool:
        await self.join_room(room)
        return True


async def test_an_error_has_the_number_of_rooms_that_were_reached(
    run_app: RunApp, open_client: OpenClient
) -> None:
    backend = EndingBackend()
    application = install(falcon.asgi.App(), backend=backend)
    application.add_websocket_route("/{room}", Hall)
    halls = await run_app(application)
    clients = [await open_client(halls, f"/hall_{number}") for number in (1, 2, 3)]
    manager = application.ws_connection_manager
    for reached, message in (
        (0, "announced to no room: the network is down"),
        (2, "announced to 2 rooms, not to all: the network is down"),
    ):
        backend.remaining = reached
        with pytest.raises(PartialAnnouncement) as caught:
            await announce_to_rooms(manager, "hall_", "Tea!")
        assert (caught.value.reached, str(caught.value)) == (reached, message)
    backend.remaining = 3
    assert await announce_to_rooms(manager, "hall_", "Tea!") == 3
    for client in clients:
        assert (await client.receive(ServerSystemAnnouncement)).text == "Tea!"

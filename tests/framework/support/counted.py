"""An application whose events are counted, and its numbers by the name of the metric."""

from __future__ import annotations

from typing import Any

import falcon.asgi

from falcon_pachinko import (
    App,
    History,
    Limits,
    Message,
    Payload,
    Reject,
    RouteConfig,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.rooms.metrics import AppMetrics
from falcon_pachinko.server.metrics import Value

LIMITS = Limits(messages_per_second=0.001, message_burst=40)


class Say(Payload, frozen=True):
    """A text for a room."""

    text: str


class ServerSaid(Message, frozen=True):
    """A text in a room."""

    text: str


class Hall(WebSocketResource):
    """A room with history; some names of users are refused."""

    limits = LIMITS
    history = History(messages=10)
    sends = (ServerSaid,)
    closes = {4100: "asked for it"}  # noqa: RUF012

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        if name == "expired":
            raise Reject(4401, "sign in")
        self.connection.user = name
        if name != "idle":
            await self.join_room("hall")
        return name != "refused"

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: Say) -> None:
        """Send a text to the room."""
        await self.broadcast_to_room("hall", ServerSaid(text=payload.text))

    @handles_message("whisper")
    async def whisper(self, ws: WebSocketLike, payload: Say) -> None:
        """Send a text to all others."""
        said = ServerSaid(text=payload.text)
        await self.manager.broadcast_to_room("hall", said, exclude=[self.connection])

    @handles_message("echo")
    async def echo(self, ws: WebSocketLike, payload: Say) -> ServerSaid:
        """Reply with the text."""
        return ServerSaid(text=payload.text)

    @handles_message("leave", per_second=0.001, burst=1)
    async def leave(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        """Close the connection with a code; at once or, as a second message, above the rate."""
        if payload:
            await ws.close(payload["code"])


def counted_app(**options: Any) -> tuple[App, AppMetrics]:
    """Return an application with metrics."""
    app = install(falcon.asgi.App(), **options)
    app.add_websocket_route("/{name}", Hall)
    app.add_websocket_route("/plain/{name}", Hall, route_config=RouteConfig(history=None))
    return app, AppMetrics(app, "1.2.3")


def number(metrics: AppMetrics, name: str, *labels: str) -> float:
    """Return a number of an application, for a histogram that of its durations; 0 without one."""
    found: Value = dict(metrics.measure()[name]).get(labels, 0.0)
    return sum(found[1:]) if isinstance(found, list) else found

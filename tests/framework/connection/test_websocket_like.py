"""Handlers accept Falcon's WebSocket and the framework's connection alike."""

import falcon.asgi

from falcon_pachinko import Connection, WebSocketLike


async def greet(ws: WebSocketLike) -> None:
    if not ws.closed:
        await ws.send_text("hello")


def test_both_kinds_of_websocket_have_the_methods_of_the_protocol() -> None:
    def accepts(connection: Connection, websocket: falcon.asgi.WebSocket) -> None:
        """Checked by mypy: both are arguments of a handler."""
        _ = greet(connection), greet(websocket)

    names = [name for name in vars(WebSocketLike) if not name.startswith("_")]
    assert sorted(names) == ["close", "closed", "send_data", "send_media", "send_text"]
    for kind in (Connection, falcon.asgi.WebSocket):
        assert all(hasattr(kind, name) for name in names)

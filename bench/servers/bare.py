"""The reference: plain ASGI. Each text is sent unchanged to each member of the room in turn."""

from typing import Any

rooms: dict[str, dict[Any, None]] = {}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/echo":
        await echo(receive, send)
    else:
        await serve_room(rooms.setdefault(scope["path"], {}), receive, send)


async def serve_room(room: dict[Any, None], receive: Any, send: Any) -> None:
    room[send] = None
    try:
        while (event := await receive())["type"] == "websocket.receive":
            message = {"type": "websocket.send", "text": event["text"]}
            for send_to_member in tuple(room):
                await send_to_member(message)
    finally:
        del room[send]


async def echo(receive: Any, send: Any) -> None:
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})

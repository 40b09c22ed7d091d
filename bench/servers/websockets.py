"""The server of websockets, with its ``broadcast``, which encodes a message once and waits for nobody."""

import json

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from ..collector import set_collector

rooms: dict[str, set[ServerConnection]] = {}


async def serve_client(client: ServerConnection) -> None:
    assert client.request is not None
    path = client.request.path
    # Without an entry in the dictionary of rooms: an echo.
    room: set[ServerConnection] = set() if path == "/echo" else rooms.setdefault(path, set())
    room.add(client)
    try:
        async for message in client:
            payload = json.loads(message)["payload"]
            broadcast(room, json.dumps({"type": "said", "payload": payload}))
    finally:
        room.discard(client)


async def main() -> None:
    async with serve(serve_client, "127.0.0.1", 0, backlog=4096, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        set_collector()
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())

"""picows, whose frames are parsed and built in C: a loop over the connections of a room, encoded once."""

import json

import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from ..collector import set_collector

rooms: dict[bytes, dict[WSTransport, None]] = {}


class Member(WSListener):
    def __init__(self, path: bytes) -> None:
        # Without an entry in the dictionary of rooms: an echo.
        self.room = {} if path == b"/echo" else rooms.setdefault(path, {})

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.room[transport] = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        payload = json.loads(frame.get_payload_as_utf8_text())["payload"]
        said = json.dumps({"type": "said", "payload": payload}).encode()
        for member in self.room:
            member.send(WSMsgType.TEXT, said)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.room.pop(transport, None)


def listen(request: WSUpgradeRequest) -> Member:
    return Member(request.path)


async def main() -> None:
    server = await ws_create_server(listen, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    set_collector()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())

"""The floor: a loop in C over the room, with ``send(2)`` or io_uring, behind a minimal WebSocket server.

Python reads each incoming frame, once per broadcast. Only complete text frames below 64 KiB are
supported, as the load client sends them.
"""

import array
import base64
import ctypes
import hashlib
import selectors
import socket
import sys
from dataclasses import dataclass, field

from ..collector import set_collector

# RFC 6455 section 1.3
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Room:
    """The sockets of a room, with an array for C."""

    def __init__(self) -> None:
        self.sockets: list[int] = []
        self.in_c = array.array("i")

    def change(self, sockets: list[int]) -> None:
        self.sockets = sockets
        self.in_c = array.array("i", sockets)


@dataclass
class Client:
    """A connection, with the data of an incomplete frame."""

    socket: socket.socket
    room: Room = field(default_factory=Room)
    data: bytes = b""


def accept(listener: socket.socket, rooms: dict[bytes, Room]) -> Client:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += connection.recv(65_536)
    lines = request.split(b"\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
    digest = hashlib.sha1(headers[b"sec-websocket-key"] + GUID).digest()
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )
    client = Client(connection, rooms.setdefault(lines[0].split()[1], Room()))
    client.room.change([*client.room.sockets, connection.fileno()])
    return client


def read_frames(client: Client) -> list[bytes] | None:
    """Return the received frames, unmasked for sending; ``None`` after a close."""
    data = client.data + client.socket.recv(65_536)
    if len(data) == len(client.data) or data[0] & 0x0F != 1:
        return None
    frames = []
    while len(data) >= 8:
        size, start = data[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        end = start + 4 + size
        if len(data) < end:
            break
        mask = (data[start : start + 4] * (size // 4 + 1))[:size]
        text = int.from_bytes(data[start + 4 : end], "big") ^ int.from_bytes(mask, "big")
        header = bytes([data[0], data[1] & 0x7F]) + data[2:start]
        frames.append(header + text.to_bytes(size, "big"))
        data = data[end:]
    client.data = data
    return frames


def serve(listener: socket.socket, library: ctypes.CDLL) -> None:
    rooms: dict[bytes, Room] = {}
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            client = key.data
            if client is None:
                client = accept(listener, rooms)
                selector.register(client.socket, selectors.EVENT_READ, client)
                continue
            frames = read_frames(client)
            if frames is None:
                selector.unregister(client.socket)
                client.room.change([s for s in client.room.sockets if s != client.socket.fileno()])
                client.socket.close()
                continue
            sockets, count = client.room.in_c.buffer_info()
            for frame in frames:
                library.send_to_all(ctypes.c_void_p(sockets), count, frame, len(frame))


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        print(listener.getsockname()[1], flush=True)
        set_collector()
        serve(listener, ctypes.CDLL(sys.argv[1]))

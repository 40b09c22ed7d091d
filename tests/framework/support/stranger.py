"""A client on a raw socket that sends arbitrary bytes."""

import asyncio
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

WAIT_SECONDS = 5.0
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class HasPort(Protocol):
    """A server on 127.0.0.1."""

    @property
    def port(self) -> int: ...


def frame(
    opcode: int, data: bytes, *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """Return a client's frame (RFC 6455 section 5.2); its mask is all zeros."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask = 0x80 if masked else 0
    if len(data) < 126:
        header = bytes([first, mask | len(data)])
    elif len(data) < 65_536:
        header = bytes([first, mask | 126]) + struct.pack("!H", len(data))
    else:
        header = bytes([first, mask | 127]) + struct.pack("!Q", len(data))
    return header + (bytes(4) if masked else b"") + data


def deflate(data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """Compress a message (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-12)
    return (compressor.compress(data) + compressor.flush(flush)).removesuffix(b"\x00\x00\xff\xff")


class Stranger:
    """A client that sends arbitrary bytes.

    Attributes:
        response: The head of the response to its handshake; empty before.
    """

    response = b""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes without framing."""
        self.writer.write(data)
        async with asyncio.timeout(WAIT_SECONDS):
            await self.writer.drain()

    def reset(self) -> None:
        """Let the connection end with a TCP reset, as after a crash."""
        socket_option = struct.pack("ii", 1, 0)  # no linger time: the kernel sends a reset
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, socket_option
        )

    async def receive(self) -> tuple[int, bytes]:
        """Return the opcode and the data of the server's next frame."""
        first, data = await self.receive_frame()
        return first & 0x0F, data

    async def receive_frame(self) -> tuple[int, bytes]:
        """Return the first byte and the data of the server's next frame."""
        async with asyncio.timeout(WAIT_SECONDS):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first, await self.reader.readexactly(size)

    async def answer(self) -> Any:
        """Return the server's next message, decoded."""
        opcode, data = await self.receive()
        assert opcode == TEXT, (opcode, data)
        return json.loads(data)

    async def close_code(self) -> int:
        """Return the code of the server's close frame."""
        opcode, data = await self.receive()
        assert opcode == CLOSE, (opcode, data)
        return int.from_bytes(data[:2], "big")


HANDSHAKE = (
    b"GET /room HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def offering(extensions: str) -> bytes:
    """Return a handshake with an offer of extensions."""
    header = f"\r\nSec-WebSocket-Extensions: {extensions}\r\n\r\n"
    return HANDSHAKE.replace(b"\r\n\r\n", header.encode())


@asynccontextmanager
async def arriving(served: HasPort, handshake: bytes) -> AsyncIterator[Stranger]:
    """Connect a client that has sent a handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        writer.write(handshake)
        yield Stranger(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def stranger(served: HasPort, handshake: bytes = HANDSHAKE) -> AsyncIterator[Stranger]:
    """Connect a client that has been accepted and is in the room."""
    async with arriving(served, handshake) as client:
        async with asyncio.timeout(WAIT_SECONDS):
            client.response = await client.reader.readuntil(b"\r\n\r\n")
        assert client.response.startswith(b"HTTP/1.1 101 "), client.response
        yield client

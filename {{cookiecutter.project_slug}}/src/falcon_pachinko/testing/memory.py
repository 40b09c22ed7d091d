"""A connection without a socket: two asyncio transports that write to each other."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any

Address = tuple[str, int]


class MemoryTransport(asyncio.Transport):
    """One end of a connection in memory; the peer reads written data in a later loop iteration.

    Args:
        address: The local address.
        peer_address: The address of the peer.
        buffered: Whether the write buffer is unlimited. Otherwise the protocol's writing is paused
            while the peer does not read.
        context: The context in which the protocol is called.
    """

    def __init__(
        self,
        address: Address,
        peer_address: Address,
        *,
        buffered: bool,
        context: contextvars.Context,
    ) -> None:
        super().__init__({"sockname": address, "peername": peer_address})
        self.peer: MemoryTransport
        self.loop = asyncio.get_running_loop()
        self.context = context
        self.buffered = buffered
        self.protocol: Any = None
        self.unread: deque[bytes] = deque()
        self.reading = True
        self.scheduled = False
        self.writing_paused = False
        self.at_eof = False
        self.closing = False
        self.disconnected = False

    # Called by protocols.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading and not self.closing

    def pause_reading(self) -> None:
        """Stop reading, and pause the writing of an unbuffered peer."""
        self.reading = False
        peer = self.peer
        if not (peer.buffered or peer.writing_paused or peer.disconnected):
            peer.writing_paused = True
            peer.protocol.pause_writing()

    def resume_reading(self) -> None:
        """Read again, and resume the writing of the peer after its pending data."""
        self.reading = True
        self.read_soon()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Pass data to the peer; the connection is lost if the peer has disconnected."""
        if self.closing:
            return
        if self.peer.disconnected:
            self.call_soon(self.disconnect, BrokenPipeError("the peer has disconnected"))
            return
        self.peer.unread.append(bytes(data))
        self.peer.read_soon()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """End the stream to the peer."""
        self.peer.at_eof = True
        self.peer.read_soon()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the buffer is either unlimited or empty."""

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (0, 0)

    def get_write_buffer_size(self) -> int:
        return 0 if self.buffered else sum(map(len, self.peer.unread))

    def close(self) -> None:
        """Stop reading, and disconnect when the peer has read all data."""
        if not self.closing:
            self.closing = True
            if self.buffered or self.peer.reading or not self.peer.unread:
                self.call_soon(self.disconnect, None)

    def abort(self) -> None:
        """Disconnect without waiting for the peer."""
        self.closing = True
        self.call_soon(self.disconnect, None)

    # Called by the two ends.

    def call_soon(self, function: Callable[..., object], *args: object) -> None:
        """Call a function in the next loop iteration, in the protocol's context."""
        self.loop.call_soon(function, *args, context=self.context)

    def read_soon(self) -> None:
        """Read in the next loop iteration."""
        if not self.scheduled:
            self.scheduled = True
            self.call_soon(self.read)

    def read(self) -> None:
        """Pass one chunk to the protocol; resume the peer's writing when all data is read."""
        self.scheduled = False
        if self.closing or not self.reading:
            return
        if self.unread:
            self.protocol.data_received(self.unread.popleft())
        elif self.at_eof:
            if not self.protocol.eof_received():
                self.close()
            return
        if self.unread or self.at_eof:
            self.read_soon()
            return
        peer = self.peer
        if peer.closing:
            peer.call_soon(peer.disconnect, None)
        elif peer.writing_paused and self.reading:
            peer.writing_paused = False
            peer.protocol.resume_writing()

    def disconnect(self, error: Exception | None) -> None:
        """End this side; the peer gets EOF after its unread data, or a reset while it is paused."""
        if self.disconnected:
            return
        self.disconnected = self.closing = True
        self.unread.clear()
        self.protocol.connection_lost(error)
        peer = self.peer
        peer.at_eof = True
        if peer.writing_paused or peer.closing:
            peer.call_soon(peer.disconnect, ConnectionResetError("the peer has disconnected"))
        else:
            peer.read_soon()


def connect_protocols(
    server: asyncio.BaseProtocol,
    client: asyncio.BaseProtocol,
    client_address: Address,
    server_address: Address,
    context: contextvars.Context,
) -> None:
    """Connect the protocols of a server and a client.

    Args:
        server: The server's protocol.
        client: The client's protocol.
        client_address: The address of the client.
        server_address: The address of the server.
        context: The server's context, so that it does not inherit the test's context variables.
    """
    server_end = MemoryTransport(server_address, client_address, buffered=False, context=context)
    client_end = MemoryTransport(
        client_address, server_address, buffered=True, context=contextvars.copy_context()
    )
    server_end.peer, client_end.peer = client_end, server_end
    server_end.set_protocol(server)
    client_end.set_protocol(client)
    context.run(server.connection_made, server_end)
    client.connection_made(client_end)

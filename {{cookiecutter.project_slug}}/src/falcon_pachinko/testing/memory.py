"""A connection without a socket: two asyncio transports, each of which is what the other one writes to."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any

Address = tuple[str, int]


class MemoryTransport(asyncio.Transport):
    """One end of a connection in memory. What one end writes, the other one reads in a later turn of the loop.

    Args:
        address: Its own address, as the protocol sees it.
        peer_address: That of the other end.
        buffered: Whether everything that is written finds room. Otherwise the protocol is asked to pause
            as long as the other end does not read.
        context: Its protocol is called in this.
    """

    peer: MemoryTransport

    def __init__(
        self,
        address: Address,
        peer_address: Address,
        *,
        buffered: bool,
        context: contextvars.Context,
    ) -> None:
        super().__init__({"sockname": address, "peername": peer_address})
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
        self.lost = False

    # What protocols call.

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
        """Read nothing more; whoever writes to here has to wait."""
        self.reading = False
        peer = self.peer
        if not (peer.buffered or peer.writing_paused or peer.lost):
            peer.writing_paused = True
            peer.protocol.pause_writing()

    def resume_reading(self) -> None:
        """Read what waits, then let those go on who write to here."""
        self.reading = True
        self.read_soon()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand over; to an end that is gone it breaks the connection."""
        if self.closing:
            return
        if self.peer.lost:
            self.soon(self.lose, BrokenPipeError("the other end is gone"))
            return
        self.peer.unread.append(bytes(data))
        self.peer.read_soon()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Write nothing more."""
        self.peer.at_eof = True
        self.peer.read_soon()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing to do: either everything finds room or nothing does."""

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (0, 0)

    def get_write_buffer_size(self) -> int:
        return 0 if self.buffered else sum(map(len, self.peer.unread))

    def close(self) -> None:
        """End once the other end has taken everything; read nothing more."""
        if not self.closing:
            self.closing = True
            if self.buffered or self.peer.reading or not self.peer.unread:
                self.soon(self.lose, None)

    def abort(self) -> None:
        """End at once."""
        self.closing = True
        self.soon(self.lose, None)

    # What the two ends do with each other.

    def soon(self, function: Callable[..., object], *args: object) -> None:
        """Call a function in a later turn of the loop."""
        self.loop.call_soon(function, *args, context=self.context)

    def read_soon(self) -> None:
        """Read in a later turn of the loop."""
        if not self.scheduled:
            self.scheduled = True
            self.soon(self.read)

    def read(self) -> None:
        """Give the protocol one piece of what waits; when nothing waits, let the other end go on."""
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
            peer.soon(peer.lose, None)
        elif peer.writing_paused and self.reading:
            peer.writing_paused = False
            peer.protocol.resume_writing()

    def lose(self, error: Exception | None) -> None:
        """Be gone, and let the other end know: after what it has not read yet, or at once where it waits."""
        if self.lost:
            return
        self.lost = self.closing = True
        self.unread.clear()
        self.protocol.connection_lost(error)
        peer = self.peer
        peer.at_eof = True
        if peer.writing_paused or peer.closing:
            peer.soon(peer.lose, ConnectionResetError("the other end is gone"))
        else:
            peer.read_soon()


def join(
    server: asyncio.BaseProtocol,
    client: asyncio.BaseProtocol,
    client_address: Address,
    server_address: Address,
    context: contextvars.Context,
) -> None:
    """Connect a server's protocol with a client's.

    Args:
        context: The server's protocol is called in this, as it would be if it had nothing to do with the test.
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

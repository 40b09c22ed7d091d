"""Pending handshakes: one is processed in every third iteration of the event loop, first come, first served.

After a restart all clients reconnect at once. Processing all handshakes together would delay the
connected clients until all are done. Iterations without work take no time, so the queue does not delay the last client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, ClassVar, cast

from ..server.admission import Place
from ..support.loop_local import PerLoop
from .handshake import HandshakeProtocol

# A handshake causes further work (responses of Redis, missed messages), which gets its iterations before
# the next handshake. Measured while 1,000 clients reconnect with 100 missed messages each: the 99th
# percentile of live messages is 10 ms with a handshake in each iteration, 7 ms with every second, 5.5 ms
# with every third, and no lower with more. All at once: 100 ms.
ITERATIONS_PER_HANDSHAKE = 3


class PendingHandshake(asyncio.Protocol):
    """Takes the place of uvicorn's WebSocket protocol until its handshake is processed.

    uvicorn creates it like its own protocols and passes the request in one piece. It costs little, so
    a thousand of them in one iteration delay nothing.

    Attributes:
        protocol_class: The protocol that replaces it.
        place: The place of the socket among those of the process, released at the end.
        counted: Whether the handshake has been counted (see :mod:`..server.admission`).
    """

    protocol_class: ClassVar[type[Any]]

    transport: asyncio.Transport
    request: bytes
    place: Place | None = None
    counted = False

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.connections: set[Any] = options["server_state"].connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register with uvicorn, which closes registered connections at a shutdown."""
        self.transport = cast(asyncio.Transport, transport)
        self.connections.add(self)
        release_parser(self.transport.get_protocol())

    def data_received(self, data: bytes) -> None:
        """Queue the request; the client's next data stays in the socket."""
        self.request = data
        self.transport.pause_reading()
        HANDSHAKE_QUEUES.of(asyncio.get_running_loop()).add(self)

    def start(self) -> None:
        """Hand the connection over to the protocol; a request that it cannot parse ends the connection."""
        self.connections.discard(self)
        try:
            protocol = self.protocol_class(**self.options)
            protocol.connection_made(self.transport)
            self.transport.set_protocol(protocol)
            self.transport.resume_reading()
            if isinstance(protocol, HandshakeProtocol):
                protocol.place, self.place = self.place, None
                protocol.receive_handshake(self.request, self.counted)
            else:
                protocol.data_received(self.request)
        except Exception:
            self.transport.abort()
            raise

    def shutdown(self) -> None:
        """Close the connection, like any whose request has not been read."""
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister: the client has disconnected."""
        self.connections.discard(self)
        if self.place is not None:
            self.place.release()


class HandshakeQueue:
    """The pending handshakes of an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pending: deque[PendingHandshake] = deque()

    def add(self, handshake: PendingHandshake) -> None:
        """Append a handshake; an empty queue starts it in the next iteration."""
        self.pending.append(handshake)
        if len(self.pending) == 1:
            self.loop.call_soon(self._start_next)

    def _skip_iterations(self, iterations: int) -> None:
        if iterations > 1:
            self.loop.call_soon(self._skip_iterations, iterations - 1)
        else:
            self._start_next()

    def _start_next(self) -> None:
        """Start the next handshake whose client is still connected."""
        handshake = self.pending.popleft()
        while handshake.transport.is_closing() and self.pending:
            handshake = self.pending.popleft()
        if self.pending:
            self.loop.call_soon(self._skip_iterations, ITERATIONS_PER_HANDSHAKE)
        if not handshake.transport.is_closing():
            handshake.start()


HANDSHAKE_QUEUES = PerLoop(HandshakeQueue)


def hand_over(protocol: Any, place: Place | None, counted: bool) -> None:
    """Release the place of a socket when its WebSocket protocol, of any class, loses the connection.

    Args:
        protocol: The protocol that has taken the socket over.
        place: The place; ``None`` if the socket is not counted.
        counted: Whether the handshake has been counted.
    """
    if isinstance(protocol, PendingHandshake):
        protocol.place, protocol.counted = place, counted
    elif place is not None:
        connection_lost = protocol.connection_lost

        def release(exc: Exception | None) -> None:
            place.release()
            del protocol.connection_lost  # the method of the class again
            connection_lost(exc)

        protocol.connection_lost = release


def release_parser(protocol: asyncio.BaseProtocol) -> None:
    """Break the reference cycle of uvicorn's HTTP protocol and its parser, which uvicorn leaves behind."""
    if hasattr(protocol, "parser"):
        setattr(protocol, "parser", None)  # noqa: B010  # the attribute is uvicorn's

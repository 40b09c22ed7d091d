"""Those who come at once: one handshake is read in every third turn of the event loop, in the order in which they came.

After a restart all clients come back at once. To begin with all of them together would keep those who are there
already waiting until all are in; like this they wait for one at a time. As turns in which nothing is to be done take
no time, nobody is in later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, ClassVar, cast

from ..support.loop_local import PerLoop

# What a beginning sets off (answers of the engine, what the client has missed) has its turns before the next one
# begins, and so has a live message on its way. Measured while 1,000 come back with 100 missed messages each: the
# slowest 1 % of live messages take 10 ms with a beginning in each turn, 7 with every second, 5.5 with every third, and
# no less with more. All at once: 100 ms.
TURNS_EACH = 3


class Newcomer(asyncio.Protocol):
    """Stands in the place of uvicorn's WebSocket protocol until it is this client's turn.

    uvicorn makes it as it makes its own protocols, and gives it the handshake as one piece. What it costs is little, so
    that a thousand of them in one turn hold up nobody.

    Attributes:
        protocol_class: What takes its place.
    """

    protocol_class: ClassVar[type[Any]]

    transport: asyncio.Transport
    handshake: bytes

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.connections: set[Any] = given["server_state"].connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be among those whom uvicorn tells of its end."""
        self.transport = cast(asyncio.Transport, transport)
        self.connections.add(self)
        let_go_of_parser(self.transport.get_protocol())

    def data_received(self, data: bytes) -> None:
        """Wait with the handshake; what the client says next waits in its socket."""
        self.handshake = data
        self.transport.pause_reading()
        NEWCOMERS.of(asyncio.get_running_loop()).add(self)

    def begin(self) -> None:
        """Let the protocol have the connection; what it cannot read ends it."""
        self.connections.discard(self)
        protocol = self.protocol_class(**self.given)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        self.transport.resume_reading()
        try:
            protocol.data_received(self.handshake)
        except Exception:
            self.transport.abort()
            raise

    def shutdown(self) -> None:
        """The server stops: as for all whose request it has not read."""
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has given up."""
        self.connections.discard(self)


class Newcomers:
    """Who waits to begin."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: deque[Newcomer] = deque()

    def add(self, newcomer: Newcomer) -> None:
        """Let one more wait: for the next turn only, if nobody else does."""
        self.waiting.append(newcomer)
        if len(self.waiting) == 1:
            self.loop.call_soon(self.begin_next)

    def pass_turns(self, turns: int) -> None:
        """Let the next one begin when so many turns have passed."""
        if turns > 1:
            self.loop.call_soon(self.pass_turns, turns - 1)
        else:
            self.begin_next()

    def begin_next(self) -> None:
        """Let the next one begin who is still there."""
        newcomer = self.waiting.popleft()
        while newcomer.transport.is_closing() and self.waiting:
            newcomer = self.waiting.popleft()
        if self.waiting:
            self.loop.call_soon(self.pass_turns, TURNS_EACH)
        if not newcomer.transport.is_closing():
            newcomer.begin()


NEWCOMERS = PerLoop(Newcomers)


def let_go_of_parser(protocol: asyncio.BaseProtocol) -> None:
    """Free uvicorn's HTTP protocol: it and its parser hold each other, and it is never told that it has ended."""
    if hasattr(protocol, "parser"):
        protocol.parser = None

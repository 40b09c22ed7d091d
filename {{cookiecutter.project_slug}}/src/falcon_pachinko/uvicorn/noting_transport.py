"""A transport that a ring may write past: it notes when a ring would overtake its data."""

from __future__ import annotations

import asyncio
from typing import Any

# The modules of the transports whose descriptors take the plain data.
TRANSPORTS = {"asyncio.selector_events", "uvloop.loop"}


class NotingTransport:
    """A transport that is in ``unsent`` while it has unsent data or closes.

    Args:
        plain: The transport of the event loop.
        unsent: Where it is noted.
    """

    __slots__ = ("plain", "unsent")

    def __init__(self, plain: asyncio.Transport, unsent: dict[NotingTransport, None]) -> None:
        self.plain = plain
        self.unsent: dict[NotingTransport, None] | None = unsent

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)

    def is_passable(self) -> bool:
        """Return whether other data may be written to the socket: nothing is unsent, and it is not closed soon."""
        return not (self.plain.is_closing() or self.plain.get_write_buffer_size())

    def note(self) -> None:
        """Let no ring write before the next check."""
        if self.unsent is not None:
            self.unsent[self] = None

    def forget(self) -> None:
        """Remove the note, and make no more: the outbox accepts nothing any more."""
        if self.unsent is not None:
            self.unsent.pop(self, None)
            self.unsent = None

    def write(self, data: bytes) -> None:
        """Write data."""
        plain = self.plain
        plain.write(data)
        # PERF: both event loops write at once, so nearly always there is nothing to note.
        if plain.is_closing() or plain.get_write_buffer_size():
            self.note()

    def writelines(self, parts: list[bytes]) -> None:
        """Write data in parts."""
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        """End our side of the connection."""
        self.note()
        self.plain.write_eof()

    def close(self) -> None:
        """Close the connection behind unsent data."""
        self.note()
        self.plain.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.note()
        self.plain.abort()


def descriptor_of(transport: asyncio.Transport) -> int:
    """Return the descriptor of an open transport of asyncio or uvloop without TLS; -1 for any other."""
    if transport.is_closing() or type(transport).__module__ not in TRANSPORTS:
        return -1
    if transport.get_extra_info("sslcontext") is not None:
        return -1
    descriptor: int = transport.get_extra_info("socket").fileno()
    return descriptor

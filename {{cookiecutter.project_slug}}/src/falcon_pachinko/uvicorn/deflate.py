"""Compressed messages: each is compressed once, alone, for all clients that take it (permessage-deflate, RFC 7692)."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable
from typing import Any

from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)

from ..connection.outbox import Outbox, OutboxGroup
from ..publication import Publication
from .outbox import PushOutbox

# A shorter message gains little without earlier ones as its dictionary: one of 200 bytes becomes 135 (measured).
MIN_BYTES = 200
# What uvicorn negotiates: a window of 4 KiB, and the memory of its compressor.
WINDOW_BITS = 12
MEMORY_LEVEL = 5
# RFC 7692 section 6: the first bit reserved by RFC 6455 marks a compressed message.
COMPRESSED = 0x40
# RFC 7692 section 7.2.1: the end of each compressed block, which is not sent.
EMPTY_BLOCK = b"\x00\x00\xff\xff"
# The classes that :func:`compressing` has made.
CLASSES: dict[type[PushOutbox], type[PushOutbox]] = {}


def agree_to_single_messages(conn: Any) -> None:
    """Let a connection agree to compress each message alone, also where a client has not asked for it.

    All clients can get the same frame then, and neither side keeps a dictionary (RFC 7692 section 7.1.1).
    """
    for factory in conn.available_extensions or ():
        if isinstance(factory, ServerPerMessageDeflateFactory):
            factory.server_no_context_takeover = factory.client_no_context_takeover = True


def takes_shared_frames(conn: Any) -> bool:
    """Return whether a client has agreed to messages that are compressed alone, with this window."""
    return any(
        isinstance(extension, PerMessageDeflate)
        and extension.local_no_context_takeover
        and extension.local_max_window_bits >= WINDOW_BITS
        for extension in conn.extensions
    )


def compressed(publication: Publication) -> Publication:
    """Return a message with a compressed frame, which all clients share; itself if that would not be shorter."""
    if publication.size_bytes < MIN_BYTES:
        return publication
    # NOTE: a message gets another body when it is numbered.
    known: tuple[bytes, Publication] | None = getattr(publication, "compressed", None)
    if known is not None and known[0] is publication.body:
        return known[1]
    compressor = zlib.compressobj(wbits=-WINDOW_BITS, memLevel=MEMORY_LEVEL)
    data = compressor.compress(publication.body) + compressor.flush(zlib.Z_SYNC_FLUSH)
    data = data.removesuffix(EMPTY_BLOCK)
    found = publication
    if len(data) < publication.size_bytes:
        found = Publication.of_encoded(data, publication.opcode)
        frame = found.make_frame()
        found.frame = bytes((frame[0] | COMPRESSED,)) + frame[1:]
        # The bounds and the counts of an outbox are those of messages.
        found.size_bytes = publication.size_bytes
    publication.compressed = (publication.body, found)
    return found


class CompressedGroup:
    """Clients that receive the same messages, compressed."""

    __slots__ = ("group",)

    def __init__(self, group: OutboxGroup) -> None:
        self.group = group

    def write(self, publication: Publication, excluded: Collection[Outbox]) -> None:
        """Write a message at the end of this iteration of the loop."""
        self.group.write(compressed(publication), excluded)


class CompressedOutbox(PushOutbox):
    """An outbox whose client takes compressed messages."""

    __slots__ = ()

    @classmethod
    def group(cls, outboxes: Iterable[PushOutbox]) -> OutboxGroup:
        """Make a group of outboxes of this class."""
        return CompressedGroup(super().group(outboxes))

    def write(self, publication: Publication) -> None:
        """Write a message at the end of this iteration of the loop, or behind pending ones."""
        super().write(compressed(publication))


def compressing(outbox_class: type[PushOutbox]) -> type[PushOutbox]:
    """Return the class of outboxes that differs from another one in that its clients take compressed messages."""
    found = CLASSES.get(outbox_class)
    if found is None:
        bases = (CompressedOutbox, outbox_class)
        name = f"Compressed{outbox_class.__name__}"
        found = CLASSES[outbox_class] = type(name, bases, {"__slots__": ()})
    return found


def with_compression(outbox_class: type[PushOutbox], conn: Any) -> type[PushOutbox]:
    """Return the class of the outbox of a client that has agreed to an extension.

    A client with other parameters than those of :func:`agree_to_single_messages` gets its messages uncompressed, which
    is always allowed (RFC 7692 section 6).
    """
    return compressing(outbox_class) if takes_shared_frames(conn) else outbox_class

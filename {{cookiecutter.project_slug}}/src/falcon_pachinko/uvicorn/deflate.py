"""Compressed messages: each is compressed once, alone, for all clients that take it (permessage-deflate, RFC 7692)."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from websockets.exceptions import ProtocolError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame
from websockets.typing import ExtensionParameter

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


class BoundedDeflate(PerMessageDeflate):
    """The extension of :class:`SingleMessages`, which refuses data behind the end of what is compressed."""

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Decode a frame of a client."""
        decoded = super().decode(frame, max_size=max_size)
        # SECURITY: zlib keeps such data until the last fragment, and no bound counts it.
        if getattr(getattr(self, "decoder", None), "unused_data", b""):
            raise ProtocolError("data after the end of a compressed message")
        return decoded


class SingleMessages(ServerPerMessageDeflateFactory):
    """Agrees to compress each message alone, also where a client has not asked for it.

    All clients can get the same frame then, and neither side keeps a dictionary (RFC 7692 section 7.1.1).
    """

    def __init__(self) -> None:
        super().__init__(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            server_max_window_bits=WINDOW_BITS,
            client_max_window_bits=WINDOW_BITS,
        )

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        """Return the parameters of the response, and the extension."""
        agreed, extension = super().process_request_params(params, accepted_extensions)
        bounded = BoundedDeflate(
            extension.remote_no_context_takeover,
            extension.local_no_context_takeover,
            extension.remote_max_window_bits,
            extension.local_max_window_bits,
        )
        return agreed, bounded


def takes_shared_frames(conn: Any) -> bool:
    """Return whether a client has agreed to this window."""
    return any(
        isinstance(extension, BoundedDeflate) and extension.local_max_window_bits >= WINDOW_BITS
        for extension in conn.extensions
    )


def compressed(publication: Publication) -> Publication:
    """Return a message with a compressed frame, which all clients share; itself if that would not be shorter."""
    if publication.size_bytes < MIN_BYTES:
        return publication
    # NOTE: a message gets another body when it is numbered.
    known: tuple[bytes, Publication | None] | None = getattr(publication, "compressed", None)
    if known is not None and known[0] is publication.body:
        return known[1] or publication
    compressor = zlib.compressobj(wbits=-WINDOW_BITS, memLevel=MEMORY_LEVEL)
    data = compressor.compress(publication.body) + compressor.flush(zlib.Z_SYNC_FLUSH)
    data = data.removesuffix(EMPTY_BLOCK)
    # NOTE: not the message itself: a cycle, which only the garbage collector would end.
    found: Publication | None = None
    if len(data) < publication.size_bytes:
        found = Publication.of_encoded(data, publication.opcode)
        frame = found.make_frame()
        found.frame = bytes((frame[0] | COMPRESSED,)) + frame[1:]
        # PERF: an outbox needs the frame only.
        found.data = found.body = b""
        # The bounds and the counts of an outbox are those of messages.
        found.size_bytes = publication.size_bytes
    publication.compressed = (publication.body, found)
    return found or publication


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

    A client with a smaller window gets its messages uncompressed, which is always allowed (RFC 7692 section 6).
    """
    return compressing(outbox_class) if takes_shared_frames(conn) else outbox_class

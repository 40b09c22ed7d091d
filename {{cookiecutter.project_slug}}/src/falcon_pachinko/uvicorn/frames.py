"""Plain text frames, read without websockets' parser: final, masked, not compressed, complete, below 64 KiB.

Clients send hardly anything else. The parser of websockets, a generator, gets all other frames, and those that it has
to refuse.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Protocol

from websockets.protocol import OPEN
from websockets.protocol import Protocol as Parser
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.version import version

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the extension module
    from websockets.utils import apply_mask

logger = logging.getLogger(__name__)

# SECURITY: all frames that begin in a slice are handled, by websockets 12 µs each, before any of them can be counted.
SLICE_BYTES = 4_096
# Where data is compressed: one byte becomes 1,032 at most, so a slice 256 KiB and the rest of a message.
COMPRESSED_SLICE_BYTES = 256

# The first byte: FIN, no reserved bit, the opcode of text (RFC 6455 section 5.2).
PLAIN_TEXT = 0x81
# In the second byte, beside the length.
MASKED = 0x80
LENGTH_16_BITS = 126

# The code of websockets' generators: the one that reads frames waits in the other one before each frame.
PARSE = getattr(Parser.parse, "__code__", None)
AT_EOF = getattr(StreamReader.at_eof, "__code__", None)


class Feed(Protocol):
    """An inbox."""

    received: int
    received_bytes: int

    def feed(self, message: str, /) -> None:
        """Append a message."""


def read_text_frames(conn: Parser, inbox: Feed, data: bytes, start: int) -> int:
    """Pass the texts of plain text frames to an inbox, up to the first other frame or the end of a slice.

    Args:
        conn: The connection of websockets, which gets the data that is not read here.
        inbox: The inbox.
        data: Data of the client.
        start: Where to begin; all before it has been read.

    Returns:
        Where the first frame begins that has not been read; ``start`` if there is none that can be read here.
    """
    size = len(data)
    # NOTE: a header with its mask has 6 bytes.
    if size - start < 6 or data[start] != PLAIN_TEXT or not reads_plain_frames(conn):
        return start
    max_bytes = size if conn.max_message_size is None else conn.max_message_size
    stop = start + SLICE_BYTES
    while start < stop and size - start >= 6 and data[start] == PLAIN_TEXT:
        length = data[start + 1] - MASKED
        payload = start + 6
        if length == LENGTH_16_BITS:
            length = data[start + 2] << 8 | data[start + 3]
            payload = start + 8
            if length < LENGTH_16_BITS:  # not the shortest form
                break
        elif not 0 <= length < LENGTH_16_BITS:  # not masked, or too long
            break
        end = payload + length
        if end > size or length > max_bytes:
            break
        try:
            text = apply_mask(data[payload:end], data[payload - 4 : payload]).decode()
        except UnicodeDecodeError:  # refused as one that websockets has parsed
            break
        start = end
        inbox.received += 1
        inbox.received_bytes += length
        inbox.feed(text)
        if conn.close_sent is not None:
            break
    return start


def reads_plain_frames(conn: Parser) -> bool:
    """Return whether the next byte begins a frame of an open connection, and a whole text is allowed there."""
    # NOTE: with an extension each frame is decoded, and with debug each is logged.
    if conn.state is not OPEN or conn.current_size is not None or conn.extensions or conn.debug:
        return False
    if conn.max_fragment_size is not None:
        return False
    parser: Any = conn.parser
    waits_in: Any = parser.gi_yieldfrom
    if parser.gi_code is not PARSE and waits_in is not None:  # the one that has read the request
        parser, waits_in = waits_in, waits_in.gi_yieldfrom
    return parser.gi_code is PARSE and waits_in is not None and waits_in.gi_code is AT_EOF


@functools.cache
def is_supported() -> bool:
    """Check once whether the installed websockets has the parser that this module knows; log a line if not."""
    try:
        supported = _try_parser()
    except Exception:  # such as an AttributeError: any means that it is another parser
        supported = False
    if not supported:
        logger.warning(
            "the parser of websockets %s is not known: text messages are read by it, at a higher cost;"
            " install websockets 16 or 17, or a framework that knows this version",
            version,
        )
    return supported


REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
EMPTY_MASK = bytes(4)


class _Texts:
    """An inbox for the check."""

    def __init__(self) -> None:
        self.received = self.received_bytes = 0
        self.texts: list[str] = []
        self.feed: Callable[[str], None] = self.texts.append


def _try_parser() -> bool:
    """Return whether a connection tells at each byte whether it is between two messages."""
    # NOTE: this level turns off debug.
    conn: Any = ServerProtocol(max_size=3, logger=logging.Logger(__name__, logging.ERROR))
    conn.receive_data(REQUEST)
    expected = [not reads_plain_frames(conn)]
    (request,) = conn.events_received()
    conn.send_response(conn.accept(request))
    expected.append(reads_plain_frames(conn))
    whole = b"\x81\x82" + EMPTY_MASK + b"ab"
    for message in (
        whole,
        b"\x89\x80" + EMPTY_MASK,
        b"\x01\x80" + EMPTY_MASK + b"\x80\x80" + EMPTY_MASK,
    ):
        for byte in message[:-1]:
            conn.receive_data(bytes([byte]))
            expected.append(not reads_plain_frames(conn))
        conn.receive_data(message[-1:])
        expected.append(reads_plain_frames(conn))
    inbox = _Texts()
    longer = b"\x81\x84" + EMPTY_MASK + b"abcd"
    expected.append(read_text_frames(conn, inbox, whole + longer, 0) == len(whole))
    expected.append(inbox.texts == ["ab"] and conn.close_sent is None)
    conn.fail(1000)
    expected.append(not reads_plain_frames(conn) and conn.close_sent is not None)
    return all(expected)

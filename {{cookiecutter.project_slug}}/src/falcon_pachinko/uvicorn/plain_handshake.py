"""Plain WebSocket handshakes, read and answered without websockets' parser and without its objects.

A plain one needs no negotiation: no subprotocol, no extension that the server accepts, no header twice. Browsers and
clients send hardly any other. websockets gets all others, and those that it has to refuse.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import sha1
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS, Request, Response
from websockets.protocol import OPEN, Protocol
from websockets.utils import GUID

# With a margin for the line end.
MAX_LINE_BYTES = MAX_LINE_LENGTH - 16
MAX_LINES = MAX_NUM_HEADERS - 8

# A request as uvicorn rebuilds it: lower-case names, values without white space around them (RFC 9112 section 5).
# SECURITY: nothing is tried twice, because the repetitions are possessive.
PLAIN_HEAD = re.compile(
    rb"GET ([!-~]++) HTTP/1\.1\r\n"
    rb"((?:[-!#$%&'*+.^_`|~0-9a-z]++: [!-~\x80-\xff][\t -~\x80-\xff]*+(?<![\t ])\r\n)++)\r\n"
)
# 16 bytes in base64 (RFC 6455 section 4.1): 4 bits of the last character are unused, and zero.
PLAIN_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
KEY_SUFFIX = GUID.encode()
# The values of browsers and of other clients.
PLAIN_CONNECTION = (b"upgrade", b"keep-alive, upgrade")
# Each of them needs a decision of websockets.
NEGOTIATED = (b"content-length", b"sec-websocket-protocol", b"transfer-encoding")
EXTENSIONS = b"sec-websocket-extensions"

HeaderList = list[tuple[bytes, bytes]]

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
VALID_NAME = re.compile(rb"[!-9;-~]+").fullmatch
VALID_VALUE = re.compile(rb"[\t -~\x80-\xff]*").fullmatch


@dataclass(frozen=True, slots=True)
class PlainHandshake:
    """A plain handshake.

    Attributes:
        url: The URL, with the query.
        headers: The headers for the ASGI scope.
        accept_key: The value of ``Sec-WebSocket-Accept`` (RFC 6455 section 4.2.2).
    """

    url: str
    headers: HeaderList
    accept_key: bytes


def read_plain_handshake(data: bytes, *, extensions: bool) -> PlainHandshake | None:
    """Read a request; return ``None`` if it is not a plain handshake.

    Args:
        data: The request as uvicorn rebuilds it.
        extensions: Whether the server accepts extensions.
    """
    if len(data) > MAX_LINE_BYTES or data.count(b"\r\n") > MAX_LINES:
        return None
    match = PLAIN_HEAD.fullmatch(data)
    if match is None:
        return None
    headers: Any = [tuple(line.split(b": ", 1)) for line in match[2][:-2].split(b"\r\n")]
    values: dict[bytes, bytes] = dict(headers)
    get = values.get
    key = get(b"sec-websocket-key", b"")
    if (
        len(values) != len(headers)
        or get(b"upgrade", b"").lower() != b"websocket"
        or get(b"connection", b"").lower() not in PLAIN_CONNECTION
        or get(b"sec-websocket-version") != b"13"
        or PLAIN_KEY.fullmatch(key) is None
        or not values.keys().isdisjoint(NEGOTIATED)
        or (extensions and EXTENSIONS in values)
    ):
        return None
    accept_key = b64encode(sha1(key + KEY_SUFFIX, usedforsecurity=False).digest())
    return PlainHandshake(match[1].decode("ascii"), headers, accept_key)


def plain_response(accept_key: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the accepting response, byte for byte as websockets writes it; ``None`` if a header is not plain."""
    lines = [SWITCHING + accept_key]
    for name, value in headers:
        if VALID_NAME(name) is None or VALID_VALUE(value) is None:
            return None
        lines.append(name.lower() + b": " + value)
    return b"\r\n".join([*lines, b"", b""])


def full_response(accept_key: bytes) -> Response:
    """Return the accepting response as websockets makes it, to which uvicorn adds a subprotocol and headers."""
    headers = {
        "Date": formatdate(usegmt=True),
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_key.decode(),
    }
    return Response(101, "Switching Protocols", Headers(headers))


# What uvicorn gets instead of the parsed request, and for its response; it changes neither.
NO_REQUEST_HEADERS = Headers()
ACCEPTED = Response(101, "Switching Protocols", Headers())


def accept_parsed(request: Request) -> Response:
    """Accept a handshake that has been read here: replaces the method of websockets while uvicorn calls it."""
    return ACCEPTED


def skip_request(conn: Any) -> None:
    """Let websockets' parser read frames next, as after a request."""
    # NOTE: the method of the base class, because that of ServerProtocol begins with a request.
    conn.accept_called = True
    conn.parser = Protocol.parse(conn)
    next(conn.parser)


def open_connection(conn: Any) -> None:
    """Note that the accepting response has been sent, as websockets does when it makes one."""
    conn.state = OPEN
    conn.logger.info("connection open")

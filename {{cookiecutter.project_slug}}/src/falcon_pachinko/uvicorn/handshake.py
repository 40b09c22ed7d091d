"""The WebSocket handshake: heads that are too long for websockets' parser, responses to invalid ones."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from ..limits import DEFAULT_LIMITS
from ..server.admission import COUNTED_EXTENSION, Place

# With a margin for the line end.
MAX_LINE_BYTES = MAX_LINE_LENGTH - 16
MAX_LINES = MAX_NUM_HEADERS - 8

# The headers that websockets needs, and those by which it detects a request with a body.
PARSED = (
    b"connection:",
    b"content-length:",
    b"host:",
    b"origin:",
    b"sec-websocket-",
    b"transfer-encoding:",
    b"upgrade:",
)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The URL and the headers of a request, as received.

    Attributes:
        url: The URL, with the query.
        headers: The headers for the ASGI scope.
    """

    url: str
    headers: list[tuple[bytes, bytes]]


def shorten_head(data: bytes) -> tuple[bytes, RequestHead | None]:
    """Withhold header lines and a URL that websockets would refuse.

    Args:
        data: A request without a body, as uvicorn rebuilds it.

    Returns:
        The request for websockets, and the head that replaces what it returns; ``None`` if both are the same.
    """
    if len(data) <= MAX_LINE_BYTES and data.count(b"\r\n") <= MAX_LINES:
        return data, None
    request_line, *lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    short = [line for line in lines if len(line) <= MAX_LINE_BYTES]
    method, _, rest = request_line.partition(b" ")
    url, _, version = rest.rpartition(b" ")
    if len(short) == len(lines) <= MAX_LINES and len(request_line) <= MAX_LINE_BYTES:
        return data, None
    headers = []
    for line in lines:
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip()))
    kept = [line for line in short if line[:20].lower().startswith(PARSED)][:MAX_LINES]
    parsed = b"\r\n".join([b"%b / %b" % (method, version), *kept, b"", b""])
    return parsed, RequestHead(url.decode("ascii", "backslashreplace"), headers)


class HandshakeProtocol(WebSocketsSansIOProtocol):
    """uvicorn's sans-I/O WebSocket protocol, which gets the request in one piece and answers any.

    Attributes:
        place: The place of the socket among those of the process, released at the end.
        counted: Whether the handshake has been counted (see :mod:`..server.admission`).
        head: The head as received, while websockets gets a shorter one.
    """

    place: Place | None = None
    counted = False
    head: RequestHead | None = None

    def receive_handshake(self, data: bytes, counted: bool) -> None:
        """Process a request; one that websockets cannot parse is answered and ends the connection."""
        self.counted = counted
        data, self.head = shorten_head(data)
        self.data_received(data)
        error: BaseException | None = self.conn.handshake_exc
        if error is None:
            return
        # NOTE: the response of a client that reads nothing would keep the connection open.
        self.loop.call_later(DEFAULT_LIMITS.close_seconds, self.transport.abort)
        while error is not None:
            # NOTE: it refers to this object, a cycle that only the garbage collector would end.
            error.__traceback__ = None
            error = error.__cause__ or error.__context__
        if self.transport.is_closing():
            return
        # NOTE: uvicorn sends nothing for an error of websockets' parser, and leaves the connection open.
        response = b"".join(self.conn.data_to_send())
        if not response:
            refusal = self.conn.reject(HTTPStatus.BAD_REQUEST, "invalid handshake\n")
            response = refusal.serialize()
        self.transport.write(response)
        self.transport.close()

    def handle_connect(self, event: Any) -> None:
        """Pass the request to the application with all headers; its task starts in a later iteration."""
        if self.head is not None:
            event.path = self.head.url
        super().handle_connect(event)
        # PERF: 2 KiB of each connection, which uvicorn does not use any more.
        self.request = None  # type: ignore[assignment]
        if self.close_sent:
            return
        if self.head is not None:
            self.scope["headers"], self.head = self.head.headers, None
        if self.counted:
            extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
            extensions[COUNTED_EXTENSION] = {}

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the place."""
        super().connection_lost(exc)
        if self.place is not None:
            self.place.release()

"""The WebSocket handshake: heads that are too long for websockets' parser, responses to invalid ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from ..limits import DEFAULT_LIMITS
from ..server.admission import COUNTED_EXTENSION, INVALID_HANDSHAKE, Place
from .handshake_check import knows_handshake
from .plain_handshake import (
    MAX_LINE_BYTES,
    MAX_LINES,
    NO_REQUEST_HEADERS,
    PlainHandshake,
    accept_parsed,
    full_response,
    open_connection,
    plain_response,
    read_plain_handshake,
    skip_request,
)

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

# The attributes of uvicorn's objects, as far as its class has no value for them (uvicorn 0.54).
UVICORN_ATTRIBUTES = """
    config app loop logger root_path asgi_version app_state connections tasks default_headers transport server client
    scheme queue handshake_initiated handshake_complete close_sent disconnected close_timer close_timeout
    initial_response conn read_paused writable ping_interval ping_timeout ping_timer pong_timer pending_ping_payload
    ping_sent_at last_ping_rtt frames curr_msg_data_type request response scope
"""


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
        head: The head as received, while uvicorn gets a shorter one.
        accept_key: The key of the response to a plain handshake (:mod:`.plain_handshake`), until it is sent.
        accelerated: Whether plain handshakes are read and answered without websockets' parser.
    """

    # PERF: 1.3 KiB less for each connection than in a dict, which has no place for so many in the object.
    __slots__ = tuple(
        name for name in UVICORN_ATTRIBUTES.split() if not hasattr(WebSocketsSansIOProtocol, name)
    )

    place: Place | None = None
    counted = False
    head: RequestHead | PlainHandshake | None = None
    accept_key: bytes | None = None
    accelerated = True

    def receive_handshake(self, data: bytes, counted: bool) -> None:
        """Process a request; one that websockets cannot parse is answered and ends the connection."""
        self.counted = counted
        accelerated = self.accelerated and knows_handshake(HandshakeProtocol)
        if not (accelerated and self.receive_plain(data)):
            self.receive_any(data)

    def receive_plain(self, data: bytes) -> bool:
        """Process a plain handshake without websockets' parser; return whether it is one."""
        if self.conn.debug:  # websockets logs what it parses
            return False
        # SECURITY: a task that starts at once would see the scope before its headers, so without an Origin.
        if self.loop.get_task_factory() is not None:
            return False
        plain = read_plain_handshake(data, extensions=self.config.ws_per_message_deflate)
        if plain is None:
            return False
        conn: Any = self.conn
        self.head, self.accept_key = plain, plain.accept_key
        skip_request(conn)
        conn.accept = accept_parsed
        self.handle_connect(Request("", NO_REQUEST_HEADERS))
        del conn.accept  # the method of the class again
        return True

    def receive_any(self, data: bytes) -> None:
        """Let websockets process a request."""
        data, self.head = shorten_head(data)
        self.data_received(data)
        error: BaseException | None = self.conn.handshake_exc
        if error is None:
            return
        if self.place is not None and self.place.counts is not None:
            self.place.counts.admission.refuse_request(INVALID_HANDSHAKE, self.client)
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
        if self.accept_key is not None:
            self.response = None  # type: ignore[assignment]
        if self.counted:
            extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
            extensions[COUNTED_EXTENSION] = {}

    async def send(self, message: Any) -> None:
        """Handle an event of the application."""
        if self.accept_key is not None and message["type"] == "websocket.accept":
            key, self.accept_key = self.accept_key, None
            if self._accept_plain(key, message):
                return
            self.response = full_response(key)
        await super().send(message)

    def _accept_plain(self, key: bytes, message: Any) -> bool:
        """Accept a plain handshake; return whether that needs nothing of websockets."""
        if message.get("subprotocol") or message.get("headers") or self.transport.is_closing():
            return False
        if self.handshake_complete or self.initial_response is not None:
            return False
        response = plain_response(key, self.default_headers)
        if response is None or not self.writable.is_set():
            return False
        if self.logger.isEnabledFor(logging.INFO):
            url = get_path_with_query_string(self.scope)
            self.logger.info('%s - "WebSocket %s" [accepted]', get_client_addr(self.scope), url)
        self.handshake_complete = True
        open_connection(self.conn)
        self.transport.write(response)
        self.start_keepalive()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the place."""
        super().connection_lost(exc)
        if self.place is not None:
            self.place.release()

"""The HTTP protocol for uvicorn: bounds of the size, the time and the number of requests.

Pass it to uvicorn as ``http=BoundedHTTPProtocol`` beside ``ws=PushProtocol``. The bounds are those of the
application (:class:`~falcon_pachinko.limits.ServerLimits`); ``keep_alive_seconds`` replaces uvicorn's
``timeout_keep_alive``.
"""

from __future__ import annotations

import math
from http import HTTPStatus

import httptools

from ..server.admission import INVALID_HANDSHAKE, Refusal
from .handshake_queue import PendingHandshake, hand_over
from .http_connection import INVALID, HTTPConnection
from .outbox import unsent_bytes
from .sweep import SWEEPS

# The parser is given pieces of this size, so that a bound is exceeded by less than one of them.
PIECE_BYTES = 4096
# The time for the rest of a request after its head.
BODY_SECONDS = 30.0
# Chunks of few bytes cost several times their content; a body of the largest size may cost this much more.
CHUNKED_OVERHEAD = 8
# Requests that wait for the response to an earlier one of the same connection.
MAX_PIPELINED = 16

HEAD_TOO_LARGE = Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too large")
TOO_MANY_LINES = Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header lines")
URL_TOO_LONG = Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "the URL is too long")
BODY_TOO_LARGE = Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
TOO_MANY_REQUESTS = Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too many pipelined requests", 1)


class RequestRefused(Exception):
    """Stops the parser: the request exceeds a bound."""


class BoundedHTTPProtocol(HTTPConnection):
    """The class to pass to uvicorn as ``http=BoundedHTTPProtocol``: requests above a bound are refused.

    Each of them is answered, and its connection ends.

    Attributes:
        header_bytes: The size of the header lines of a request.
        header_lines: Their number.
        body_bytes: The size of its body.
        raw_bytes: The size of the body with its chunks' headers.
        requests: The number of requests.
        earlier_bytes: How much of the piece that is parsed may belong to an earlier request.
    """

    # Read by PushProtocol and by the check at start-up.
    bounds_requests = True

    # uvicorn removes the parser at the end of a connection, after which nothing is parsed.
    parser: httptools.HttpRequestParser  # pyright: ignore[reportIncompatibleVariableOverride]
    header_bytes = header_lines = body_bytes = raw_bytes = requests = earlier_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse data within the bounds."""
        if self.refusal is not None:
            self._drain(len(data))
            return
        self._unset_keepalive_if_required()
        if self.deadline == math.inf:
            self.deadline = self.loop.time() + self.limits.head_seconds
        try:
            for start in range(0, len(data), PIECE_BYTES):
                self._parse(data if len(data) <= PIECE_BYTES else data[start : start + PIECE_BYTES])
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:  # RFC 9110 section 7.8: a server may ignore it
                self.cycle.keep_alive = False
        except (RequestRefused, httptools.HttpParserError):
            self._refuse_request(self.refusal or INVALID)

    def _parse(self, piece: bytes) -> None:
        """Parse a piece of a request and count what it adds to the unfinished head or body."""
        idle = not (self.in_head or self.in_body)
        self.earlier_bytes = 0 if idle else len(piece)
        requests = self.requests
        self.parser.feed_data(piece)
        if self.in_body:
            self.raw_bytes += len(piece)
            if self.raw_bytes > self.limits.body_bytes * CHUNKED_OVERHEAD + PIECE_BYTES:
                self._stop(BODY_TOO_LARGE)
        elif self.in_head or self.requests == requests:
            self.head_bytes += len(piece)
            if self.head_bytes > self.limits.head_bytes:
                self._stop(HEAD_TOO_LARGE)

    def _stop(self, refusal: Refusal) -> None:
        """Stop the parser, which replaces the exception by one of its own."""
        self.refusal = refusal
        raise RequestRefused(refusal.text)

    def on_message_begin(self) -> None:
        """Start to count the bytes of a request."""
        super().on_message_begin()
        self.in_head = True
        self.requests += 1
        self.head_bytes = -self.earlier_bytes
        self.header_bytes = self.header_lines = self.body_bytes = self.raw_bytes = 0
        if self.deadline == math.inf:
            self.deadline = self.loop.time() + self.limits.head_seconds

    def on_url(self, url: bytes) -> None:
        """Check the size of the URL, of which this is a part."""
        if len(self.url) + len(url) > self.limits.url_bytes:
            self._stop(URL_TOO_LONG)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Check the number of header lines and their size; the trailer of a body counts too."""
        self.header_lines += 1
        self.header_bytes += len(name) + len(value) + 4
        if self.header_lines > self.limits.head_lines:
            self._stop(TOO_MANY_LINES)
        if self.header_bytes + len(self.url) > self.limits.head_bytes:
            self._stop(HEAD_TOO_LARGE)
        if self.in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check what the head announces."""
        self.in_head, self.in_body = False, True
        self.head_bytes, self.earlier_bytes = 0, PIECE_BYTES
        self.deadline = self.loop.time() + BODY_SECONDS
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self.limits.body_bytes:
                self._stop(BODY_TOO_LARGE)
        waiting = self.cycle is not None and not self.cycle.response_complete
        if waiting and len(self.pipeline) >= MAX_PIPELINED:
            self._stop(TOO_MANY_REQUESTS)
        if self.parser.should_upgrade() and self._should_upgrade():
            # NOTE: a response that is still being sent would become part of the WebSocket connection.
            if waiting or unsent_bytes(self.transport):
                self._stop(INVALID_HANDSHAKE)
            if self.parser.get_http_version() != "1.1":  # RFC 6455 section 4.1
                self._stop(INVALID_HANDSHAKE)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Check the size of a body that is sent in chunks."""
        self.body_bytes += len(body)
        if self.body_bytes > self.limits.body_bytes:
            self._stop(BODY_TOO_LARGE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect no further request: uvicorn closes an idle connection after ``keep_alive_seconds``."""
        self.in_body = False
        self.deadline = math.inf
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket protocol, unless its address makes too many handshakes."""
        # NOTE: refusing here costs less than in the application, which knows the clients of a proxy.
        counts = issubclass(self.config.ws_protocol_class or object, PendingHandshake)
        address = self.address if counts else None
        refusal = self.admission.take_handshake(address)
        if refusal is not None:
            self._refuse(refusal)
            return
        SWEEPS.of(self.loop).discard(self)
        super().handle_websocket_upgrade()
        hand_over(self.transport.get_protocol(), self.place, counted=address is not None)
        self.place = None

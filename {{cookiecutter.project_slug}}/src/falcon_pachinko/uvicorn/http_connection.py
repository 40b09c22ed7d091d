"""A connection of uvicorn's HTTP protocol: its place, its deadlines, and the end of a refused one."""

from __future__ import annotations

import math
from collections.abc import Container
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..connection.rate_limit import address_of
from ..limits import DEFAULT_LIMITS
from ..server.admission import Admission, Place, Refusal
from .outbox import unsent_bytes
from .sweep import SWEEPS

# What is read and dropped after a refusal, so that a client that is still sending gets the response
# instead of a reset (RFC 9112 section 9.6).
DRAINED_BYTES = 256 * 1024
# Refused sockets that may wait for their request, so that it does not cause a reset either.
MAX_REFUSED_SOCKETS = 100
# A client has this time to read a part of a response, or all of a smaller one.
RESPONSE_SECONDS = 30.0
PROGRESS_BYTES = 16 * 1024

INVALID = Refusal(HTTPStatus.BAD_REQUEST, "invalid HTTP request")
TOO_SLOW = Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request took too long")

DEFAULT_ADMISSION = Admission()
# Applications that wrap another one, as uvicorn's middlewares do.
MAX_WRAPPERS = 20


class HTTPConnection(HttpToolsProtocol):
    """uvicorn's HTTP protocol on httptools: it is counted, has deadlines, and ends after a refused request.

    A deadline is met up to half a second late (:mod:`.sweep`).

    Attributes:
        place: The place of the socket; ``None`` if it has been refused or handed over.
        running: The request whose response is awaited or being sent; later ones are in ``pipeline``.
        refusal: The response to a request that exceeds a bound, after those to earlier requests.
        refused: Whether it has been written.
        deadline: The time by which the client has to send the rest of its request, or to close.
        in_head: Whether a part of a head has been received.
        in_body: Whether the rest of a request has not been received.
        head_bytes: The size of the unfinished head.
    """

    place: Place | None = None
    running: RequestResponseCycle | None = None
    refusal: Refusal | None = None
    refused = False
    deadline = math.inf
    in_head = in_body = False
    head_bytes = 0
    drained_bytes = 0
    unread_bytes = 0
    # When the client has last read a part of the buffered response.
    read_at = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.admission, self.trusted_proxies = find_admission(self.app)
        self.limits = self.admission.limits
        self.timeout_keep_alive = self.limits.keep_alive_seconds  # type: ignore[assignment]

    def connection_made(self, transport: Any) -> None:
        """Count the socket, or refuse it."""
        super().connection_made(transport)
        SWEEPS.of(self.loop).add(self)
        self.deadline = self.loop.time() + self.limits.head_seconds
        place = self.admission.enter_socket(self.address)
        if isinstance(place, Place):
            self.place = place
        elif self.admission.refused_sockets < MAX_REFUSED_SOCKETS:
            self.admission.refused_sockets += 1
            self._refuse(place)
        else:
            transport.abort()

    @property
    def address(self) -> str | None:
        """The address to be counted; ``None`` for a trusted proxy, whose clients are counted instead."""
        if self.client is None or self.client[0] in self.trusted_proxies:
            return None
        return address_of({"client": self.client})

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything that belongs to the connection."""
        SWEEPS.of(self.loop).discard(self)
        if self.place is not None:
            self.place.release()
        elif self.refused:
            self.admission.refused_sockets -= 1
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        # NOTE: uvicorn reports the disconnect to the last request only.
        if self.running is not None and not self.running.response_complete:
            self.running.disconnected = True
            self.running.message_event.set()
        self.pipeline.clear()
        self.cycle = self.running = None  # type: ignore[assignment]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        """Close the connection after the response, for a shutdown of the server."""
        # NOTE: asyncio's transport for TLS ignores abort() after a second close().
        if self.transport.is_closing():
            return
        if self.refused:
            self.transport.close()
        else:
            super().shutdown()

    def check(self, now: float) -> None:
        """End the connection if its client is too slow."""
        if not self._reads_response(now):
            self.transport.abort()
        elif now < self.deadline or (self.transport.is_closing() and not self.refused):
            return
        elif self.refused:
            self.transport.abort()
        elif self.flow.read_paused:  # the client waits for the application
            self.deadline = now + self.limits.head_seconds
        elif self.in_head or self.in_body or self.head_bytes:
            self._refuse_request(TOO_SLOW)
        else:
            self.transport.close()

    def _reads_response(self, now: float) -> bool:
        """Return whether the client has read a part of what is buffered for it, within the bound."""
        size = unsent_bytes(self.transport)
        if not size or not self.unread_bytes or size <= self.unread_bytes - PROGRESS_BYTES:
            self.unread_bytes, self.read_at = size, now
        return now - self.read_at < RESPONSE_SECONDS

    def resume_writing(self) -> None:
        """Note that the client reads."""
        super().resume_writing()
        self.unread_bytes = 0

    def on_response_complete(self) -> None:
        """Start the next request, or refuse the one that has waited for the responses to earlier ones."""
        last = not self.pipeline
        super().on_response_complete()
        if self.refusal is not None and last and not self.transport.is_closing():
            self._write_refusal(self.refusal)
        elif self.pipeline:
            self.flow.pause_reading()

    def send_400_response(self, msg: str) -> None:
        """Refuse an invalid request."""
        self._refuse_request(INVALID)

    def _refuse_request(self, refusal: Refusal) -> None:
        self.admission.refuse_request(refusal, self.client)
        self._refuse(refusal)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with an error after the responses to earlier requests, and end the connection."""
        self.refusal = refusal
        self.deadline = math.inf
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._write_refusal(refusal)
        elif self.in_body and cycle.scope is self.scope:
            # Its application, which waits for the body, gets a disconnect.
            cycle.disconnected = True
            cycle.waiting_for_100_continue = (
                False  # or uvicorn would write "100 Continue" after the end
            )
            cycle.message_event.set()
            if self.pipeline:
                self.pipeline.popleft()
            elif cycle.response_started:
                self.transport.close()
            else:
                self._write_refusal(refusal)

    def _write_refusal(self, refusal: Refusal) -> None:
        """Write the response and end the connection, at the latest after ``close_seconds``."""
        self.refused = True
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.deadline = self.loop.time() + DEFAULT_LIMITS.close_seconds
        status = refusal.status
        lines = [b"HTTP/1.1 %d %b" % (status, status.phrase.encode())]
        for name, value in (*self.server_state.default_headers, *refusal.headers):
            lines.append(name + b": " + value)
        self.transport.write(b"\r\n".join([*lines, b"", refusal.body]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS
            self.transport.close()

    def _drain(self, size_bytes: int) -> None:
        """Drop what a refused client still sends."""
        self.drained_bytes += size_bytes
        if self.place is None:  # the request of a refused socket
            if not self.transport.is_closing():
                self.transport.close()
        elif self.drained_bytes > DRAINED_BYTES:
            self.flow.pause_reading()


def find_admission(app: Any) -> tuple[Admission, Container[str]]:
    """Return the counts of an application, and its trusted proxies or else its server's.

    Middlewares are unwrapped.
    """
    proxies: Container[str] = ()
    for _ in range(MAX_WRAPPERS):
        admission = getattr(app, "ws_admission", None)
        if isinstance(admission, Admission):
            own: Container[str] | None = getattr(app, "ws_trusted_proxies", None)
            return admission, proxies if own is None else own
        proxies = getattr(app, "trusted_hosts", proxies)
        app = getattr(app, "app", None)
    return DEFAULT_ADMISSION, proxies

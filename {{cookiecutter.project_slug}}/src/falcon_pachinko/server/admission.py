"""Which connections a process takes: bounds of their number, in total and per address, and of handshakes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from ..connection.inbox import Receive
from ..connection.outbox import Send
from ..connection.rate_limit import TokenBuckets, address_of
from ..limits import DEFAULT_SERVER_LIMITS, ServerLimits
from ..support.open_files import raise_open_files
from .forwarded import MAX_PROXIES

logger = logging.getLogger(__name__)

# Files that are not connections of clients: the log, listening sockets, connections to Redis.
RESERVED_FILES = 200
# Above this share of the bound the process is not ready, so that a load balancer selects another one in time.
READY_SHARE = 0.95
# The time between two log lines of one kind: a flood of refused connections must not fill the disk.
LOG_SECONDS = 10.0
# The scope's extension of a handshake that has been counted before it reached the application.
COUNTED_EXTENSION = "falcon_pachinko.counted"
ITERATIONS_PER_CLOSE = 3
# A connection that floods the server costs its address so many handshakes: it has taken about as much CPU
# time (20 to 40 ms), and the client would connect again at once.
HANDSHAKES_PER_FLOOD = 100
RESPONSE_EXTENSION = "websocket.http.response"
TRY_AGAIN_LATER = 1013


@dataclass(frozen=True, slots=True)
class Refusal:
    """The HTTP response to a request that is refused.

    Attributes:
        status: The HTTP status.
        text: The reason, for the client and for the log.
        retry_after_seconds: The value of ``Retry-After``; 0 for none.
    """

    status: HTTPStatus
    text: str
    retry_after_seconds: int = 0

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the response."""
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(self.body)),
            (b"connection", b"close"),
        ]
        if self.retry_after_seconds:
            headers.append((b"retry-after", b"%d" % self.retry_after_seconds))
        return headers

    @property
    def body(self) -> bytes:
        """The body of the response."""
        return self.text.encode() + b"\n"


FULL = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the server has too many connections", 10)
ADDRESS_FULL = Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too many connections from this address", 10)
TOO_FAST = Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too many handshakes from this address", 1)
INVALID_HANDSHAKE = Refusal(HTTPStatus.BAD_REQUEST, "invalid handshake")


class Place:
    """One counted connection; released exactly once."""

    __slots__ = ("address", "counts")

    def __init__(self, counts: Counts, address: str | None) -> None:
        self.counts: Counts | None = counts
        self.address = address

    def release(self) -> None:
        """Count the connection no longer. Idempotent."""
        counts, self.counts = self.counts, None
        if counts is not None:
            counts._leave(self.address)


class Counts:
    """The connections of one kind, in total and per address.

    Attributes:
        total: The number of connections.
        per_address: The number of connections of each address that has any.
    """

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.total = 0
        self.per_address: dict[str, int] = {}

    def enter(self, address: str | None) -> Place | Refusal:
        """Count a connection, or refuse it.

        Args:
            address: The client's address, see :func:`..connection.rate_limit.address_of`; ``None`` if it is
                not known or not to be counted.
        """
        if self.total >= self.admission.connections:
            return FULL
        if address is not None:
            number = self.per_address.get(address, 0)
            if number >= self.admission.limits.connections_per_address:
                return ADDRESS_FULL
            self.per_address[address] = number + 1
        self.total += 1
        return Place(self, address)

    def _leave(self, address: str | None) -> None:
        self.total -= 1
        if address is not None:
            number = self.per_address[address] - 1
            if number:
                self.per_address[address] = number
            else:
                del self.per_address[address]


class RepeatedLog:
    """A log line for events that may come in a flood: the first at once, then one per 10 s with their number."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.next_at = 0.0
        self.omitted = 0

    def add(self, text: str, *values: object) -> None:
        """Log an event, or count it for the next line."""
        now = time.monotonic()
        if now < self.next_at:
            self.omitted += 1
            return
        omitted, self.omitted = self.omitted, 0
        self.next_at = now + LOG_SECONDS
        if omitted:
            text, values = text + " (and %d times since the last line)", (*values, omitted)
        logger.log(self.level, text, *values)


class Admission:
    """Decides which connections a process takes.

    A server that reports each socket (:mod:`falcon_pachinko.uvicorn`) counts sockets, of any protocol. Under
    every server the WebSocket connections are counted.

    Attributes:
        limits: The bounds.
        connections: The maximum number of connections: that of ``limits``, or less if the operating system
            permits fewer open files (see :meth:`start`).
        sockets: The open sockets.
        websockets: The WebSocket connections.
        handshakes: The token buckets of handshakes, by address.
        refused_sockets: The sockets that have been refused and are not closed yet.
        refused_requests: The log of invalid requests.
    """

    def __init__(self, limits: ServerLimits = DEFAULT_SERVER_LIMITS) -> None:
        self.limits = limits
        self.connections = limits.connections
        self.sockets = Counts(self)
        self.websockets = Counts(self)
        self.handshakes = TokenBuckets(limits.handshakes_per_second, limits.handshake_burst)
        self.refused_sockets = 0
        self.refused_connections = RepeatedLog(logging.WARNING)
        self.refused_clients = RepeatedLog(logging.INFO)
        self.refused_requests = RepeatedLog(logging.INFO)
        self.forwarding_checked = False

    def start(self) -> None:
        """Raise the limit of open files to the maximum, adapt the number of connections, and log it."""
        files = raise_open_files()
        if files is not None:
            self.connections = min(self.limits.connections, files - min(RESERVED_FILES, files // 2))
        logger.info(
            "this process takes %d connections (bound: %d, open files: %s)",
            self.connections,
            self.limits.connections,
            "no bound" if files is None else files,
        )

    @property
    def overload(self) -> str:
        """The reason why the process should get no further clients; empty if there is none."""
        number = max(self.sockets.total, self.websockets.total)
        if number < self.connections * READY_SHARE:
            return ""
        return f"{number} of {self.connections} connections are in use"

    def enter_socket(self, address: str | None) -> Place | Refusal:
        """Count a socket when it is accepted, or refuse it."""
        return self._check(self.sockets.enter(address), address)

    def take_handshake(self, address: str | None) -> Refusal | None:
        """Take a token for a handshake of an address; return the refusal if there is none."""
        if address is None:
            return None
        now = time.monotonic()
        if not self.handshakes.of(address, now).take_available(now):
            self._check(TOO_FAST, address)
            return TOO_FAST
        return None

    def enter_websocket(
        self, scope: Mapping[str, Any], *, from_proxy: bool = False
    ) -> Place | Refusal:
        """Count a handshake and its connection, or refuse them.

        Args:
            scope: The scope, with the client's address as a trusted proxy has forwarded it, if it has.
            from_proxy: Whether one has.
        """
        address = address_of(scope)
        if not (self.forwarding_checked or from_proxy):
            self._check_forwarding(scope)
        counted = COUNTED_EXTENSION in (scope.get("extensions") or ())
        if not counted and (refusal := self.take_handshake(address)) is not None:
            return refusal
        return self._check(self.websockets.enter(address), address)

    def refuse_request(self, refusal: Refusal, client: tuple[str, int] | None) -> None:
        """Log the refusal of a request that is invalid or exceeds a bound."""
        host = client[0] if client else "an unknown address"
        self.refused_requests.add("refused a request of %s: %s", host, refusal.text)

    def charge_flood(self, scope: Mapping[str, Any], share: float) -> None:
        """Charge an address for a connection that has flooded the server; a part of a flood costs its share."""
        address = address_of(scope)
        if address is not None:
            self.handshakes.of(address, time.monotonic()).charge(HANDSHAKES_PER_FLOOD * share)

    def _check(self, result: Place | Refusal, address: str | None) -> Place | Refusal:
        if isinstance(result, Refusal):
            log = self.refused_connections if result is FULL else self.refused_clients
            values = (address or "an unknown address", result.status, result.text)
            log.add("refused a connection of %s with HTTP %d: %s", *values)
        return result

    def _check_forwarding(self, scope: Mapping[str, Any]) -> None:
        """Warn once of a proxy that is not trusted: all of its clients would count as one address."""
        host, _ = scope.get("client") or ("", 0)
        forwarded = b",".join(
            value for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"
        )
        if not host or not forwarded:
            return
        # NOTE: the client of a trusted proxy is one of the forwarded addresses, in any notation.
        entries = forwarded.decode("latin-1").rsplit(",", MAX_PROXIES)
        clients = {address_of({"client": (entry.strip(), 0)}) for entry in entries}
        if address_of(scope) in clients:
            return
        self.forwarding_checked = True
        logger.warning(
            "X-Forwarded-For comes from %s, which is not a trusted proxy: if it is your proxy, its clients share the"
            " bounds of one address; add it to APP_TRUSTED_PROXIES, or to the trusted proxies of your server",
            host,
        )


async def refuse_handshake(
    refusal: Refusal, scope: Mapping[str, Any], receive: Receive, send: Send
) -> None:
    """Answer a WebSocket handshake with an HTTP response; without the server's support it is 403."""
    await receive()
    if RESPONSE_EXTENSION not in (scope.get("extensions") or ()):
        await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
        return
    kind = RESPONSE_EXTENSION
    await send({"type": f"{kind}.start", "status": int(refusal.status), "headers": refusal.headers})
    await send({"type": f"{kind}.body", "body": refusal.body})
    # NOTE: uvicorn logs an error if the application returns before the connection has ended.
    for _ in range(ITERATIONS_PER_CLOSE):
        await asyncio.sleep(0)

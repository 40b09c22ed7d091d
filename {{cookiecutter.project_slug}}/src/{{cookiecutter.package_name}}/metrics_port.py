"""``GET /metrics`` on a port of its own: a small HTTP server for a collector of metrics."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable
from http import HTTPStatus

from falcon_pachinko.server.exposition import CONTENT_TYPE

from .auth import token_in

logger = logging.getLogger(__name__)

# SECURITY: the bounds of what a stranger can use.
MAX_CONNECTIONS = 8
MAX_HEAD_BYTES = 8_192
REQUEST_SECONDS = 5.0
HEAD_END = b"\r\n\r\n"
# Errors of a request that is not complete.
INCOMPLETE = (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
PATH = "/metrics"


class MetricsPort:
    """Serves the metrics until :meth:`close`.

    Args:
        text: Returns the text of the metrics.
        token: The token that a request needs; empty for none.
    """

    def __init__(self, text: Callable[[], bytes], token: str = "") -> None:
        self.text = text
        self.token = token
        self.connections = 0
        self.server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> None:
        """Begin to serve.

        Raises:
            OSError: The address is taken, or is not one of this machine.
        """
        self.server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD_BYTES)
        logger.info("the metrics are on port %d", port)

    async def close(self) -> None:
        """Serve no longer. Idempotent."""
        server, self.server = self.server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, within a time."""
        self.connections += 1
        try:
            if self.connections <= MAX_CONNECTIONS:
                async with asyncio.timeout(REQUEST_SECONDS):
                    head = await reader.readuntil(HEAD_END)
                    writer.write(self.answer(head.decode("latin-1")))
                    await writer.drain()
        except INCOMPLETE:
            logger.debug("a request for metrics was not complete")
        finally:
            self.connections -= 1
            writer.close()

    def answer(self, head: str) -> bytes:
        """Return the response to the head of a request."""
        first, *lines = head.split("\r\n")
        method, _, rest = first.partition(" ")
        headers = {name.lower(): value.strip() for name, _, value in map(split_header, lines)}
        if rest.partition(" ")[0].partition("?")[0] != PATH:
            return response(HTTPStatus.NOT_FOUND)
        if method not in ("GET", "HEAD"):
            return response(HTTPStatus.METHOD_NOT_ALLOWED, "allow: GET, HEAD")
        if self.token and not is_token(headers.get("authorization", ""), self.token):
            return response(HTTPStatus.UNAUTHORIZED, "www-authenticate: Bearer")
        body = self.text()
        return response(HTTPStatus.OK, f"content-type: {CONTENT_TYPE}", body, sends=method == "GET")


def split_header(line: str) -> tuple[str, str, str]:
    """Return the name and the value of a line of a head, with the colon between them."""
    return line.partition(":")


def is_token(authorization: str, token: str) -> bool:
    """Return whether a header ``Authorization`` has a token; takes the same time for any other token."""
    given = token_in(authorization) or ""
    return hmac.compare_digest(given.encode(), token.encode())


def response(
    status: HTTPStatus, header: str = "", body: bytes = b"", *, sends: bool = True
) -> bytes:
    """Return an HTTP response after which the connection ends."""
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "connection: close",
        *filter(None, [header]),
    ]
    return "\r\n".join(lines).encode() + HEAD_END + (body if sends else b"")

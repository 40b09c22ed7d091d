"""The handshake of a client: TLS, no redirects, and the close code of one that fails."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import InvalidProxy, InvalidStatus, InvalidURI, WebSocketException

from ..close_codes import ABNORMAL_CLOSURE, shorten_close_reason
from ..errors import ConfigurationError

logger = logging.getLogger(__name__)

# Close code 3000 + the status, as Falcon maps it.
HTTP_STATUS_OFFSET = 3_000
# RFC 9110 sections 5.1 and 5.5: a line break would add a header.
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# A handshake that fails for a reason that a retry may remove. NOTE: a certificate error is an OSError and a ValueError.
TEMPORARY_ERRORS = (OSError, EOFError, WebSocketException)
# The attempt itself is not valid: the URL, the proxy, or a package that it needs.
CONFIGURATION_ERRORS = (InvalidURI, InvalidProxy, ValueError, TypeError, ImportError)
# A terminal code, as for a request that the server calls invalid (HTTP status 400).
INVALID_ATTEMPT = 3_400


class DirectConnect(connect_websocket):
    """A handshake that follows no redirect, which raises ``InvalidStatus`` instead.

    SECURITY: a followed redirect would send headers and the query to an address that the application has not chosen.
    """

    def process_redirect(self, exc: Exception) -> Exception:
        """Return the error: the handshake fails."""
        return exc


def is_header_value(value: object) -> bool:
    """Return whether a header can have a value."""
    return HEADER_VALUE.fullmatch(str(value)) is not None


def check_headers(headers: Mapping[str, str]) -> None:
    """Check the headers of each handshake.

    Raises:
        ConfigurationError: A name or a value is not valid. SECURITY: the text has no value, which may be a token.
    """
    for name, value in headers.items():
        if HEADER_NAME.fullmatch(name) is None or not is_header_value(value):
            raise ConfigurationError(
                f"the header {name!r} is not valid: neither its name nor its value may have line breaks or "
                "characters outside of ISO 8859-1"
            )


def tls_arguments(url: str, context: ssl.SSLContext | None) -> Mapping[str, Any]:
    """Return the TLS arguments of a handshake; without a context, certificates are verified as by default."""
    if urlsplit(url).scheme != "wss":
        # The library refuses even ``ssl=None`` for one scheme and a context for the other.
        return {}
    return {"ssl": context or True}


def end_of(error: Exception) -> tuple[int, str]:
    """Return the close code and the reason of a failed handshake.

    The code is 3000 + the HTTP status of a response, 1006 for an error that may be temporary, and 3400, which is
    terminal, for an attempt that is not valid itself, which is logged.
    """
    if isinstance(error, InvalidStatus):
        response = error.response
        location = response.headers.get("Location") if 300 <= response.status_code < 400 else None
        reason = "" if location is None else f"redirect to {location}, which is not followed"
        if reason:
            logger.warning("the handshake was answered with a %s", reason)
        return HTTP_STATUS_OFFSET + response.status_code, shorten_close_reason(reason)
    reason = shorten_close_reason(str(error) or type(error).__name__)
    is_temporary = isinstance(error, TEMPORARY_ERRORS)
    if is_temporary and not isinstance(error, (InvalidURI, InvalidProxy)):
        return ABNORMAL_CLOSURE, reason
    logger.error("the client cannot connect: its configuration is not valid", exc_info=error)
    return INVALID_ATTEMPT, reason

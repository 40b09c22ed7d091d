"""Why a WebSocket connection has ended (RFC 6455 section 7.4)."""

from __future__ import annotations

from falcon import HTTPError, HTTPStatus, WebSocketDisconnected
from falcon.asgi.ws import http_status_to_ws_code

NORMAL_CLOSURE = 1000
NO_STATUS_RECEIVED = 1005
ABNORMAL_CLOSURE = 1006
INVALID_TEXT = 1007
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
FORBIDDEN = http_status_to_ws_code(403)
SLOW_READER = 4008
TOO_MANY_MESSAGES = 4029

# RFC 6455 section 7.4.1 and the IANA registry: what an endpoint may send, below the ranges for applications.
SENDABLE = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})

# RFC 6455 section 5.5: a control frame carries 125 bytes at most, and a close frame spends two on its code.
MAX_REASON_BYTES = 123


def check_close_code(code: int) -> int:
    """Return the code if an endpoint may send it.

    Raises:
        ValueError: It may not.
    """
    if code in SENDABLE or 3000 <= code <= 4999:
        return code
    raise ValueError(
        f"close code {code} cannot be sent: use 1000, 4000 to 4999, or another of RFC 6455 section 7.4"
    )


def shorten_close_reason(reason: str) -> str:
    """Cut the reason to what fits into a close frame, between two characters."""
    return reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")


def is_disconnect(error: Exception) -> bool:
    """Whether an exception only says that the client is gone; a TaskGroup puts it into a group."""
    if isinstance(error, ExceptionGroup):
        return error.split(WebSocketDisconnected)[1] is None
    return isinstance(error, WebSocketDisconnected)


def close_code_of(error: Exception) -> int:
    """The code that Falcon's own error handlers close with."""
    if isinstance(error, (HTTPError, HTTPStatus)):
        return http_status_to_ws_code(error.status_code)
    return INTERNAL_ERROR

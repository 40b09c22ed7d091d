"""WebSocket close codes (RFC 6455 section 7.4)."""

from __future__ import annotations

from typing import Any

from falcon import HTTPError, HTTPStatus, WebSocketDisconnected
from falcon.asgi.ws import http_status_to_ws_code

NORMAL_CLOSURE = 1000
NO_STATUS_RECEIVED = 1005
ABNORMAL_CLOSURE = 1006
INVALID_TEXT = 1007
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
FORBIDDEN = http_status_to_ws_code(403)
SLOW_READER = 4008
TOO_MANY_MESSAGES = 4029
BAD_ROOM_NAME = 4400
SESSION_ENDED = 4401
ACCESS_DENIED = 4403
TOO_MANY_CONNECTIONS = 4429

# The codes that an endpoint may send, below the application ranges (RFC 6455 section 7.4.1, IANA registry).
SENDABLE = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})

# A control frame carries at most 125 bytes, two of which are a close frame's code (RFC 6455 section 5.5).
MAX_REASON_BYTES = 123


def check_close_code(code: int) -> int:
    """Return a code that an endpoint may send.

    Raises:
        ValueError: An endpoint may not send it.
    """
    if code in SENDABLE or 3000 <= code <= 4999:
        return code
    raise ValueError(
        f"close code {code} cannot be sent: use 1000, 4000 to 4999, or another of RFC 6455 section 7.4"
    )


def shorten_close_reason(reason: str) -> str:
    """Truncate a reason to the size of a close frame, at a character boundary."""
    return reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")


def close_event(code: int, reason: str) -> dict[str, Any]:
    """Make the ASGI event that closes a connection."""
    return {"type": "websocket.close", "code": code, "reason": shorten_close_reason(reason)}


def end_code(code: int | None, *, closed: bool) -> int:
    """Return the code of a connection at its end: without one, 1006 if it is lost, 1012 if the server stops."""
    return code or (ABNORMAL_CLOSURE if closed else SERVICE_RESTART)


def is_disconnect(error: Exception) -> bool:
    """Return whether an exception only reports a disconnect; a TaskGroup wraps it in a group."""
    if isinstance(error, ExceptionGroup):
        return error.split(WebSocketDisconnected)[1] is None
    return isinstance(error, WebSocketDisconnected)


def close_code_of(error: Exception) -> int:
    """Return the code with which Falcon's error handlers close."""
    if isinstance(error, (HTTPError, HTTPStatus)):
        return http_status_to_ws_code(error.status_code)
    return INTERNAL_ERROR

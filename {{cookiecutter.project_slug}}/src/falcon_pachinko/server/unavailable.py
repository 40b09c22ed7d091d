"""The answer to a request that cannot be authenticated for now, because a service does not respond."""

from __future__ import annotations

import logging
from typing import Any

import falcon
import falcon.asgi
from falcon import WebSocketDisconnected

from ..close_codes import TRY_AGAIN_LATER
from ..errors import MessageError

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5


async def answer_unavailable(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response | None,
    error: MessageError,
    params: dict[str, Any],
    ws: falcon.asgi.WebSocket | None = None,
) -> None:
    """Handle the error: HTTP 503 with ``Retry-After``; a WebSocket is accepted and closed with 1013.

    A client tries again after both, and nobody is taken for signed out.
    """
    logger.warning("%.200r: temporarily unavailable: %s", req.path, error)
    if ws is None:
        raise falcon.HTTPServiceUnavailable(description=error.text, retry_after=RETRY_AFTER_SECONDS)
    try:
        # NOTE: a browser does not see why a handshake was refused, so it is accepted first.
        if ws.unaccepted:
            await ws.accept()
        await ws.close(TRY_AGAIN_LATER, error.text)
    except WebSocketDisconnected:
        logger.debug("the client has disconnected")

"""The answer to a request that cannot be authenticated for now, because a service does not respond."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import falcon
import falcon.asgi
from falcon import WebSocketDisconnected

from ..close_codes import TRY_AGAIN_LATER
from ..errors import MessageError

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
WARNING_SECONDS = 10.0


class UnavailableHandler:
    """The error handler of an application for such requests.

    Attributes:
        next_warning_at: The time from which a warning is logged again, on the monotonic clock.
        unlogged: The number of requests since the last warning.
    """

    def __init__(self) -> None:
        self.next_warning_at = -math.inf
        self.unlogged = 0

    async def answer(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response | None,
        error: MessageError,
        params: dict[str, Any],
        ws: falcon.asgi.WebSocket | None = None,
    ) -> None:
        """Handle the error: HTTP 503 with ``Retry-After``; a WebSocket is accepted and closed with 1013.

        A client tries again after both, and nobody is taken for signed out.
        """
        self._warn(req.path, error)
        if ws is None:
            raise falcon.HTTPServiceUnavailable(
                description=error.text, retry_after=RETRY_AFTER_SECONDS
            )
        try:
            # NOTE: a browser does not see why a handshake was refused, so it is accepted first; and it fails where
            #   none of the subprotocols is selected that it has offered.
            if ws.unaccepted:
                await ws.accept(next(iter(ws.subprotocols), None))
            await ws.close(TRY_AGAIN_LATER, error.text)
        except WebSocketDisconnected:
            logger.debug("the client has disconnected")

    def _warn(self, path: str, error: MessageError) -> None:
        """Log the first request at once, and then at most one in ten seconds: an outage concerns all of them."""
        now = time.monotonic()
        if now < self.next_warning_at:
            self.unlogged += 1
            return
        more = f" ({self.unlogged} more since the last warning)" if self.unlogged else ""
        logger.warning("%.200r: temporarily unavailable: %s%s", path, error, more)
        self.next_warning_at, self.unlogged = now + WARNING_SECONDS, 0

"""``GET /health``: whether the process answers. ``GET /ready``: whether it should be given clients."""

from __future__ import annotations

import logging

import falcon
import falcon.asgi

from falcon_pachinko.backends.base import Backend

logger = logging.getLogger(__name__)


class HealthResource:
    """For what starts a process again that does not answer, such as a container's health check."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """200 with ``{"status": "ok"}``."""
        resp.media = {"status": "ok"}


class ReadyResource:
    """For load balancers, which send clients elsewhere for as long as a process is not ready.

    Do not start such a process again: its connections live on, and it will be ready by itself.
    """

    def __init__(self, backend: Backend, workers: int) -> None:
        self.backend = backend
        self.warning = ""
        if workers > 1 and backend.single:
            self.warning = (
                f"{workers} processes serve, and each has rooms of its own: set APP_BACKEND_URL,"
                " or APP_WORKERS to 1"
            )
            logger.critical(self.warning)

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """200 with ``{"status": "ready"}``, or 503 with ``{"status": "not ready", "reasons": [...]}``."""
        resp.cache_control = ["no-store"]
        outage = self.backend.outage and f"the engine of the rooms is away: {self.backend.outage}"
        reasons = [reason for reason in (self.warning, outage) if reason]
        if reasons:
            resp.status = falcon.HTTP_503
            resp.media = {"status": "not ready", "reasons": reasons}
        else:
            resp.media = {"status": "ready"}

"""``GET /health``: is the process alive? ``GET /ready``: can it take clients?"""

from __future__ import annotations

import falcon
import falcon.asgi

from falcon_pachinko.backends.base import Backend


class HealthResource:
    """For a supervisor that restarts a process without an answer, such as a container's health check."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Send 200 with ``{"status": "ok"}``."""
        resp.media = {"status": "ok"}


class ReadyResource:
    """For load balancers, which send new clients elsewhere while a process is not ready.

    Do not restart such a process: its connections stay open, and it becomes ready by itself.

    Args:
        backend: The backend whose outage makes the process not ready.
        warning: A permanent reason not to be ready; empty if there is none.
    """

    def __init__(self, backend: Backend, warning: str) -> None:
        self.backend = backend
        self.warning = warning

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Send 200 with ``{"status": "ready"}``, or 503 with ``{"status": "not ready", "reasons": [...]}``."""
        resp.cache_control = ["no-store"]
        outage = self.backend.outage and f"Redis is unavailable: {self.backend.outage}"
        reasons = [reason for reason in (self.warning, outage) if reason]
        if reasons:
            resp.status = falcon.HTTP_503
            resp.media = {"status": "not ready", "reasons": reasons}
        else:
            resp.media = {"status": "ready"}

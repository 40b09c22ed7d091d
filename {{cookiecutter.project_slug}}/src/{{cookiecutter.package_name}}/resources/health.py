"""``GET /health``: whether the process answers."""

from __future__ import annotations

import falcon.asgi


class HealthResource:
    """For load balancers and container health checks."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """200 with ``{"status": "ok"}``."""
        resp.media = {"status": "ok"}

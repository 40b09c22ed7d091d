"""``GET /metrics``: the numbers of the service, for a collector with the token of APP_METRICS_TOKEN."""

from __future__ import annotations

import falcon
import falcon.asgi

from falcon_pachinko.server.exposition import CONTENT_TYPE

from ..metrics import ServiceMetrics
from ..metrics_port import is_token


class MetricsResource:
    """Serve the metrics to a request with ``Authorization: Bearer`` and the token.

    Args:
        metrics: The metrics, with a token.
    """

    def __init__(self, metrics: ServiceMetrics) -> None:
        self.metrics = metrics

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Send the text.

        Raises:
            falcon.HTTPUnauthorized: The token is missing or wrong.
        """
        if not is_token(req.get_header("Authorization") or "", self.metrics.token):
            raise falcon.HTTPUnauthorized(challenges=["Bearer"])
        resp.cache_control = ["no-store"]
        resp.content_type = CONTENT_TYPE
        resp.data = self.metrics.text()

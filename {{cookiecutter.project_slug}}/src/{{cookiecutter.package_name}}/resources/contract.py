"""``GET /asyncapi.json``: the contract with clients."""

from __future__ import annotations

from typing import Any

import falcon
import falcon.asgi
import msgspec


class ContractResource:
    """Serve the AsyncAPI document, generated at start-up; the page ``/docs`` shows it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.json = msgspec.json.encode(document)

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Send the document."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self.json

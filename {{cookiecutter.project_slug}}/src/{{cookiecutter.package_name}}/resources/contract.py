"""``GET /asyncapi.json``: what clients may say and what they are told."""

from __future__ import annotations

from typing import Any

import falcon
import falcon.asgi
import msgspec


class ContractResource:
    """Serves the AsyncAPI document, made when the service starts; the page ``/docs`` shows it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.json = msgspec.json.encode(document)

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """The whole document."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self.json

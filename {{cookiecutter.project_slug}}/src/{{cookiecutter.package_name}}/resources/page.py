"""``GET /`` and ``GET /docs``: the chat page and the one that explains the messages."""

from __future__ import annotations

from pathlib import Path

import falcon
import falcon.asgi


class PageResource:
    """Serves one HTML file, read when the service starts."""

    def __init__(self, path: Path) -> None:
        self.html = path.read_text(encoding="utf-8")

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """The page itself; its scripts and styles are served below ``/static``."""
        resp.content_type = falcon.MEDIA_HTML
        resp.text = self.html

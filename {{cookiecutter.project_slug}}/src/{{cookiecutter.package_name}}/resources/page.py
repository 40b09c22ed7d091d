"""``GET /``, ``GET /docs`` and ``GET /inspect``: the chat page, that of the messages, and that of the live state."""

from __future__ import annotations

from pathlib import Path

import falcon
import falcon.asgi


class PageResource:
    """Serve one HTML file, read at start-up."""

    def __init__(self, path: Path) -> None:
        self.html = path.read_text(encoding="utf-8")

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Send the page; its scripts and styles are below ``/static``."""
        resp.content_type = falcon.MEDIA_HTML
        resp.text = self.html

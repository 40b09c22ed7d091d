"""``HEAD`` for every resource that has ``GET`` (RFC 9110 section 9.1 requires both)."""

from __future__ import annotations

from typing import Any

import falcon.asgi
from falcon.routing import CompiledRouter


class HeadRouter(CompiledRouter):
    """A router that answers ``HEAD`` with the responder of ``GET``; Falcon sends no body."""

    def map_http_methods(self, resource: object, **kwargs: Any) -> Any:
        """Return the responders of a resource by method."""
        methods: dict[str, Any] = dict(super().map_http_methods(resource, **kwargs))
        if "GET" in methods:
            methods.setdefault("HEAD", methods["GET"])
        return methods


class HeadMiddleware:
    """Close the file of a response to ``HEAD``, which Falcon leaves open."""

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: Any,
        req_succeeded: bool,
    ) -> None:
        """Remove the stream; the header with its length stays."""
        stream: Any = resp.stream
        if req.method == "HEAD" and stream is not None:
            resp.stream = None
            await stream.close()

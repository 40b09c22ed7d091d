"""``GET /health``: is the process alive? ``GET /ready``: can it take clients?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import falcon
import falcon.asgi

from falcon_pachinko import App

if TYPE_CHECKING:
    from ..store import MessageStore

NOT_STARTED = "the application has not been started: its server runs no ASGI lifespan"


class HealthResource:
    """For a supervisor that restarts a process without an answer, such as a container's health check."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Send 200 with ``{"status": "ok"}``."""
        resp.media = {"status": "ok"}


class ReadyResource:
    """For load balancers, which send new clients elsewhere while a process is not ready.

    Do not restart such a process: its connections stay open, and it becomes ready by itself.

    Args:
        app: The application; it is not ready before its start, from the signal to stop on, while Redis is
            unavailable, and shortly before its maximum of connections. An outage of the database does not count: all nodes have the
            same database, and rooms, presence and past messages on the pages go on.
        store: The store of messages, if there is one.
    """

    def __init__(self, app: App, store: MessageStore | None = None) -> None:
        self.app = app
        self.store = store

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Send 200 with ``{"status": "ready"}``, or 503 with ``{"status": "not ready", "reasons": [...]}``.

        Both have ``{"redis": {"maxmemory_policy": ...}}`` once the backend has read it; no policy makes a process
        not ready. Both have ``{"database": {"outage": ...}}`` after a failed operation of the store, until one
        succeeds.
        """
        resp.cache_control = ["no-store"]
        manager = self.app.ws_connection_manager
        backend = manager.backend
        unstarted = "" if self.app.ws_started else NOT_STARTED
        outage = backend.outage and f"Redis is unavailable: {backend.outage}"
        overload = self.app.ws_admission.overload
        stopping = "the service is about to stop" if manager.draining else ""
        reasons = [reason for reason in (unstarted, stopping, outage, overload) if reason]
        media: dict[str, object] = {"status": "not ready" if reasons else "ready"}
        if reasons:
            media["reasons"] = reasons
            resp.status = falcon.HTTP_503
        if backend.details:
            media["redis"] = backend.details
        if self.store is not None and self.store.outage:
            media["database"] = {"outage": self.store.outage}
        resp.media = media

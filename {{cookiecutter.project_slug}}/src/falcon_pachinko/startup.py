"""The start and the end of an application: the ASGI lifespan, and :func:`lifespan` in its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

import falcon.asgi

from .connection.outbox import Send
from .errors import ConfigurationError, RegistrationError
from .rooms.manager import WebSocketConnectionManager
from .server.admission import Refusal
from .server.drain import DRAIN_STATE
from .server.falcon_log import lower_client_mistakes
from .support.lifespan import Lifespan

logger = logging.getLogger(__name__)

STARTED_ALREADY = (
    "the application has been started already: either its server runs the lifespan or its host does, with"
    " falcon_pachinko.lifespan(app)"
)
NOT_STARTED = (
    "the application has not been started, because its server has no ASGI lifespan or another application"
    " mounts it"
)
REMEDY = "run it in the host with 'async with falcon_pachinko.lifespan(app)', or by a server with the lifespan on"

UNSTARTED = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, "the application has not been started", retry_after_seconds=10
)


class LifespanMiddleware:
    """Runs the functions registered with ``@app.lifespan``: entered in order, exited in reverse.

    Attributes:
        running: Whether the startup has begun and the shutdown is not complete.
        started: Whether the startup is complete and the shutdown has not begun.
        checked: Whether the server has been checked, with the first connection.
        app: The application, the argument of the functions.
        refusal: The text of the ConfigurationError that has ended the last startup; empty for none.

    Args:
        manager: The connection manager, whose backend starts and stops with the application.
    """

    def __init__(self, manager: WebSocketConnectionManager) -> None:
        self.manager = manager
        self.functions: list[Callable[[Any], AbstractAsyncContextManager[Any]]] = []
        self.stack = AsyncExitStack()
        self.running = self.started = self.checked = False
        self.has_logged = False
        self.refusal = ""
        self.app: Any
        lower_client_mistakes()

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Start the backend and enter all functions; if one fails, exit the entered ones and re-raise."""
        if self.running:
            raise RuntimeError(STARTED_ALREADY)
        self.running = True
        self.refusal = ""
        backend = self.manager.backend
        try:
            self.app.ws_admission.start()
            await backend.start()
            self.stack.push_async_callback(backend.stop)
            for function in self.functions:
                await self.stack.enter_async_context(function(self.app))
            self.manager._drain.has_begun = False
            if "state" in scope:
                scope["state"][DRAIN_STATE] = self.manager._drain
        except BaseException as error:
            if isinstance(error, ConfigurationError):
                self.refusal = str(error)
            try:
                await self.stack.aclose()
            finally:
                self.running = False
            raise
        self.started = True

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Exit all functions and stop the backend, after the connections have ended.

        A server whose shutdown timeout has expired cancels the connections and calls this at once.
        """
        if not self.started:
            return  # the startup failed, or was refused
        self.started = self.checked = False
        try:
            await self.manager._registry.wait_empty()
        finally:
            try:
                await self.stack.aclose()
            finally:
                self.running = False

    def report_refusal(self, send: Send) -> Send:
        """Wrap a server's ``send``: a startup that a ConfigurationError has ended is reported by its text alone.

        Falcon reports a traceback, in which the next step would be the last of many lines.
        """

        async def send_event(event: Mapping[str, Any]) -> None:
            if self.refusal and event["type"] == "lifespan.startup.failed":
                event = {**event, "message": self.refusal}
            await send(event)

        return send_event

    def on_refused(self) -> None:
        """Log once why connections are refused, unless the application is starting or stopping."""
        if not self.running and not self.has_logged:
            self.has_logged = True
            logger.error("connections are refused: %s; %s", NOT_STARTED, REMEDY)


@asynccontextmanager
async def lifespan(app: falcon.asgi.App[Any, Any]) -> AsyncIterator[None]:
    """Start an application and stop it at the end, in place of a server's lifespan.

    For a host that does not pass the lifespan on, such as another application that mounts this one, and for
    a server without one. It runs what a server would run: the startup of all middleware, the backend and the
    functions registered with ``@app.lifespan``, all in one task. At the end it waits for the last connection.

    Raises:
        RegistrationError: The application was not made by :func:`~falcon_pachinko.install`.
        RuntimeError: The application has been started already, or its startup or shutdown failed; the text
            contains the traceback.
    """
    middleware: LifespanMiddleware | None = getattr(app, "ws_lifespan", None)
    if middleware is None:
        raise RegistrationError(f"lifespan() needs an application made by install(), not {app!r}")
    if middleware.running:
        raise RuntimeError(STARTED_ALREADY)
    server = Lifespan(app, {}, timeout_seconds=None)
    server.task = asyncio.create_task(server.call_app(), name="lifespan")
    try:
        await server.request("startup")
        try:
            yield
        finally:
            await server.request("shutdown")
    finally:
        server.task.cancel()
        await asyncio.wait({server.task})

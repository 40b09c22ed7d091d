"""Give a Falcon application its rooms: a connection manager, WebSocket routes and a lifespan."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, TypeVar

import falcon.asgi

from .backends.base import Backend
from .connection.connection import Connection
from .connection.inbox import Receive
from .connection.outbox import PUSH_EXTENSION, Send
from .errors import RegistrationError
from .rooms.manager import WebSocketConnectionManager
from .routing import CONNECTION_KEY, ResourceFactory, WebSocketRoute, check_resource

# RFC 6454 section 6.2: an origin as browsers write it.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([^\sA-Z/?#@:*\[\]]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

LifespanFunction = TypeVar("LifespanFunction", bound=Callable[..., Any])


class LifespanMiddleware:
    """Runs the functions given to ``@app.lifespan``: entered in order, left in reverse."""

    def __init__(self) -> None:
        self.functions: list[Callable[[App], AbstractAsyncContextManager[Any]]] = []
        self.stack = AsyncExitStack()
        self.app: App

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Begin and enter all; where one fails, leave those already entered and let the server's start fail."""
        backend = self.app.ws_connection_manager.backend
        try:
            await backend.start()
            self.stack.push_async_callback(backend.stop)
            for function in self.functions:
                await self.stack.enter_async_context(function(self.app))
        except BaseException:
            await self.stack.aclose()
            raise

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """Leave all, once the connections have said goodbye.

        A server whose grace period is over cancels them and comes here at once.
        """
        try:
            await self.app.ws_connection_manager.wait_empty()
        finally:
            await self.stack.aclose()


class App(falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]):
    """A Falcon application with rooms; :func:`install` makes it of yours.

    Attributes:
        ws_connection_manager: Every connection and every room.
        ws_routes: The WebSocket routes in the order in which they were added.
    """

    # NOTE: falcon.asgi.App has slots, so an instance takes another class only if that adds none. What
    #   belongs to one application hangs on a class of its own, made by install().
    __slots__ = ()

    ws_connection_manager: ClassVar[WebSocketConnectionManager]
    ws_routes: ClassVar[list[WebSocketRoute]]
    ws_lifespan: ClassVar[LifespanMiddleware]
    ws_allowed_origins: ClassVar[Collection[str]]

    async def __call__(  # type: ignore[override]  # as in falcon.asgi.App, whose base is the WSGI class
        self, scope: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        if scope["type"] != "websocket":
            await super().__call__(scope, receive, send)
            return
        push = (scope.get("extensions") or {}).get(PUSH_EXTENSION)
        # NOTE: whoever stands around the application and looks at events is to see all of them.
        if push is not None and (push["receive"], push["send"]) != (receive, send):
            push = None
        connection = Connection(receive, send, push, self.ws_connection_manager.backend.node_id)
        try:
            await super().__call__(
                {**scope, CONNECTION_KEY: connection}, receive, connection.forward
            )
        finally:
            await connection.end()

    def add_websocket_route(
        self, uri_template: str, resource: ResourceFactory, /, *args: Any, **kwargs: Any
    ) -> None:
        """Serve WebSocket connections to a URI template.

        Args:
            uri_template: As in ``falcon.App.add_route``; its fields reach ``on_connect`` by name.
            resource: A ``WebSocketResource`` class, or any callable that returns such a resource. It is
                called for each connection.
            args: Passed to the call.
            kwargs: Passed to the call.

        Raises:
            RegistrationError: The resource, its handlers or its ``on_connect`` cannot work like this.
        """
        check_resource(uri_template, resource, args, kwargs)
        route = WebSocketRoute(
            uri_template,
            resource,
            args,
            kwargs,
            self.ws_connection_manager,
            self.ws_allowed_origins,
        )
        self.add_route(uri_template, route)
        self.ws_routes.append(route)

    def lifespan(self, function: LifespanFunction) -> LifespanFunction:
        """Run an ``async def f(app): ...; yield; ...`` around the application's life.

        What stands before ``yield`` runs before the server accepts connections; what stands after it runs
        when all connections have ended. Several are entered in the order of registration and left in
        reverse. An exception before ``yield`` stops the server's start.

        Raises:
            RegistrationError: The function is no async generator function.
        """
        if not inspect.isasyncgenfunction(function):
            raise RegistrationError(
                f"{function!r} is no lifespan: write 'async def f(app)' with one 'yield'"
            )
        generator: Callable[[App], AsyncIterator[None]] = function
        self.ws_lifespan.functions.append(asynccontextmanager(generator))
        return function


def install(
    app: falcon.asgi.App[Any, Any],
    *,
    allowed_origins: Collection[str] = (),
    backend: Backend | None = None,
) -> App:
    """Give an application ``ws_connection_manager``, ``add_websocket_route`` and ``lifespan``.

    The application itself is changed and returned; the return value is what type checkers understand.
    Falcon's receive queue is turned off for it (``ws_options.max_receive_queue = 0``): connections read
    directly, which saves a task and 7 of 26 µs per message.

    Args:
        app: A ``falcon.asgi.App``, or an instance of a subclass.
        allowed_origins: Origins besides the application's own whose pages may connect, such as
            ``https://example.com``; ``*`` allows all.
        backend: What joins this process with others, see :func:`~falcon_pachinko.backends.backend_from_url`;
            by default there are no others. It begins and ends with the application's lifespan.

    Raises:
        RegistrationError: It is not an ASGI application of Falcon, or has been installed already, or
            an origin is none.
    """
    if not isinstance(app, falcon.asgi.App):
        raise RegistrationError(f"install() needs a falcon.asgi.App, not {app!r}")
    if hasattr(app, "ws_connection_manager"):
        raise RegistrationError("install() has been called for this application already")
    for origin in [allowed_origins] if isinstance(allowed_origins, str) else allowed_origins:
        if (origin != "*" and not ORIGIN.fullmatch(origin)) or origin is allowed_origins:
            raise RegistrationError(
                f"allowed_origins has {origin!r}: give a list of origins such as"
                " 'https://chat.example.com', in lower case and without a default port, or '*'"
            )
    lifespan = LifespanMiddleware()
    own_class = type(app)
    # NOTE: the class of the application comes first, or Python finds the layouts too different.
    bases = (App,) if own_class in (falcon.asgi.App, App) else (own_class, App)
    installed_class = type(
        own_class.__name__,
        bases,
        {
            "__slots__": (),
            "__module__": own_class.__module__,
            "ws_connection_manager": WebSocketConnectionManager(backend),
            "ws_routes": [],
            "ws_lifespan": lifespan,
            "ws_allowed_origins": frozenset(allowed_origins),
        },
    )
    app.__class__ = installed_class
    assert isinstance(app, App)
    lifespan.app = app
    app.ws_options.max_receive_queue = 0
    app.add_middleware(lifespan)
    return app

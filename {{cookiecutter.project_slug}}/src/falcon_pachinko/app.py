"""The application: ``install`` adds a connection manager, WebSocket routes and a lifespan to Falcon's."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import falcon.asgi

from .backends.base import Backend
from .close_codes import INTERNAL_ERROR, TOO_MANY_MESSAGES
from .connection.connection import Connection
from .connection.extension import PUSH_EXTENSION, PushExtension
from .connection.inbox import Receive
from .connection.outbox import Send
from .errors import BackendUnavailable, ProviderUnavailable, RegistrationError
from .limits import DEFAULT_SERVER_LIMITS, ServerLimits
from .rooms.manager import WebSocketConnectionManager
from .route_config import (
    DEFAULT_ROUTE_CONFIG,
    Authenticate,
    RouteConfig,
    check_authenticate,
    check_origins,
)
from .routing.rooms_route import RoomsRoute, route_of
from .routing.route import CONNECTION_KEY, ResourceFactory, WebSocketRoute, check_resource
from .server.admission import Admission, Refusal, refuse_handshake
from .server.forwarded import TrustedProxies
from .server.missing_bounds import turn_off_proxy_headers, warn_of_missing_bounds
from .server.root_path import (
    check_root_path,
    check_route_path,
    redirect_to_root,
    strip_root_path,
)
from .server.unavailable import UnavailableHandler
from .startup import UNSTARTED, LifespanMiddleware

LifespanFunction = TypeVar("LifespanFunction", bound=Callable[..., Any])


class App(falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]):
    """A Falcon application with rooms, made by :func:`install`.

    Attributes:
        ws_connection_manager: The connection manager.
        ws_routes: The WebSocket routes in the order in which they were added.
        ws_admission: The counts of connections; ``overload`` is the reason not to get more.
    """

    # NOTE: falcon.asgi.App has slots, so an instance accepts another class only if that adds none. The
    #   attributes of one application are those of a class of its own, made by install().
    __slots__ = ()

    ws_connection_manager: ClassVar[WebSocketConnectionManager]
    ws_routes: ClassVar[list[WebSocketRoute]]
    ws_lifespan: ClassVar[LifespanMiddleware]
    ws_allowed_origins: ClassVar[Collection[str]]
    ws_trusted_proxies: ClassVar[TrustedProxies | None]
    ws_root_path: ClassVar[str] = ""
    ws_admission: ClassVar[Admission]
    ws_authenticate: ClassVar[Authenticate | None]

    @property
    def ws_started(self) -> bool:
        """Whether the server or :func:`~falcon_pachinko.lifespan` has started the application; else connections are refused."""
        return self.ws_lifespan.started

    async def __call__(  # type: ignore[override]  # as in falcon.asgi.App, whose base is the WSGI class
        self, scope: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        kind, is_trusted = scope["type"], False
        if kind == "lifespan":
            send = self.ws_lifespan.report_refusal(send)
        if self.ws_trusted_proxies is not None:
            if kind == "lifespan":
                turn_off_proxy_headers(receive)
            else:
                is_trusted = self.ws_trusted_proxies.apply(scope)
        if kind != "lifespan":
            # NOTE: the proxy's headers change the server's scope, so that its log has them; this one is a copy.
            scope = strip_root_path(scope, self.ws_root_path)
        if kind == "http" and not scope["path"]:
            await redirect_to_root(scope, send)
            return
        if kind != "websocket":
            await super().__call__(scope, receive, send)
            return
        push: PushExtension | None = (scope.get("extensions") or {}).get(PUSH_EXTENSION)
        # NOTE: a middleware that wraps receive or send has to see all events, so it disables the extension.
        if push is not None and (push.receive, push.send) != (receive, send):
            push = None
        if not self.ws_lifespan.checked and not self._check_server(scope, push):
            await refuse_handshake(UNSTARTED, scope, receive, send)
            return
        place = self.ws_admission.enter_websocket(scope, from_proxy=is_trusted)
        if isinstance(place, Refusal):
            await refuse_handshake(place, scope, receive, send)
            return
        try:
            connection = Connection(receive, send, push, self.ws_connection_manager.backend.node_id)
            connection._log_from_here()
            try:
                await super().__call__(
                    {**scope, CONNECTION_KEY: connection}, receive, connection._forward
                )
            finally:
                try:
                    if connection._before_close is not None:  # an error handler has not closed it
                        await connection._before_close(INTERNAL_ERROR)
                finally:
                    await connection.aclose()
                flood = 0.0 if push is None else push.flood
                if flood := 1.0 if connection.close_code == TOO_MANY_MESSAGES else flood:
                    self.ws_admission.charge_flood(scope, flood)
        finally:
            place.release()

    def _check_server(self, scope: Mapping[str, Any], push: PushExtension | None) -> bool:
        """Check the server with the first connection; return whether the application has been started."""
        lifespan = self.ws_lifespan
        if not lifespan.started:
            lifespan.on_refused()
            return False
        limits = [route.config.limits for route in self.ws_routes]
        max_message_bytes = max((bound.max_message_bytes for bound in limits), default=0)
        warn_of_missing_bounds(scope.get("extensions") or {}, push, max_message_bytes)
        lifespan.checked = True
        return True

    def add_route(self, uri_template: str, resource: object, **kwargs: Any) -> None:
        """Add a route, as in Falcon.

        Raises:
            ConfigurationError: The template begins with the path prefix of the application.
        """
        check_route_path(uri_template, self.ws_root_path)
        super().add_route(uri_template, resource, **kwargs)

    def add_static_route(self, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Serve the files of a folder, as in Falcon.

        Raises:
            ConfigurationError: The route begins with the path prefix of the application.
        """
        check_route_path(prefix, self.ws_root_path)
        super().add_static_route(prefix, *args, **kwargs)

    def add_websocket_route(
        self,
        uri_template: str,
        resource: ResourceFactory,
        /,
        *args: Any,
        route_config: RouteConfig = DEFAULT_ROUTE_CONFIG,
        **kwargs: Any,
    ) -> None:
        """Serve WebSocket connections to a URI template.

        Args:
            uri_template: As in ``falcon.App.add_route``; its fields are keyword arguments of ``on_connect``.
            resource: A ``WebSocketResource`` class, or a callable that returns such a resource. It is called
                for each connection.
            args: The arguments of the call.
            route_config: The limits, the history and the origins of this route.
            kwargs: The keyword arguments of the call.

        Raises:
            RegistrationError: The resource, its handlers or its ``on_connect`` cannot work.
            ConfigurationError: The template begins with the path prefix of the application.
        """
        config = route_config
        if not config.allowed_origins:
            config = replace(config, allowed_origins=self.ws_allowed_origins)
        if config.authenticate is None:
            # NOTE: read from the class, or a function would become a method of the application.
            config = replace(config, authenticate=type(self).ws_authenticate)
        config = check_resource(uri_template, resource, args, kwargs, config)
        route = WebSocketRoute(
            uri_template, resource, args, kwargs, self.ws_connection_manager, config
        )
        self.add_route(uri_template, route)
        self.ws_routes.append(route)

    def add_rooms_route(self, uri_template: str, rooms_template: str) -> None:
        """Serve connections that may be in several rooms, each as on a connection of its own to another route.

        The ``on_connect`` of a room gets the request of this connection.

        Args:
            uri_template: The template of these connections, such as ``/ws``.
            rooms_template: That of a route that has been added: it has one field more, the name of the room.

        Raises:
            RegistrationError: There is no such route, or it does not declare the class of its resources.
            ConfigurationError: The template begins with the path prefix of the application.
        """
        rooms = route_of(rooms_template, self.ws_routes)
        route = RoomsRoute(uri_template, rooms, self.router_options.converters)
        self.add_route(uri_template, route)
        self.ws_routes.append(route)

    def lifespan(self, function: LifespanFunction) -> LifespanFunction:
        """Run an ``async def f(app): ...; yield; ...`` around the life of the application.

        The part before ``yield`` runs before the server accepts connections, the part after it when all
        connections have ended. Functions are entered in the order of registration and exited in reverse.
        An exception before ``yield`` stops the server's start; a ConfigurationError is reported without a
        traceback.

        Raises:
            RegistrationError: The function is not an async generator function.
        """
        if not inspect.isasyncgenfunction(function):
            raise RegistrationError(
                f"{function!r} is not a lifespan: write 'async def f(app)' with one 'yield'"
            )
        generator: Callable[[App], AsyncIterator[None]] = function
        self.ws_lifespan.functions.append(asynccontextmanager(generator))
        return function


def install(
    app: falcon.asgi.App[Any, Any],
    *,
    allowed_origins: Collection[str] = (),
    backend: Backend | None = None,
    server_limits: ServerLimits = DEFAULT_SERVER_LIMITS,
    trusted_proxies: Collection[str] | None = None,
    root_path: str = "",
    authenticate: Authenticate | None = None,
) -> App:
    """Add ``ws_connection_manager``, ``add_websocket_route`` and ``lifespan`` to an application.

    The application itself is changed and returned; the return value has the type for type checkers.
    Falcon's receive queue is turned off (``ws_options.max_receive_queue = 0``): connections read
    directly, which saves a task per connection and 7 of 26 µs per message.

    Args:
        app: A ``falcon.asgi.App``, or an instance of a subclass.
        allowed_origins: Origins besides the application's own whose pages may connect, such as
            ``https://example.com``; ``*`` allows all.
        backend: Connects this process with others, see :func:`~falcon_pachinko.backends.backend_from_url`; by
            default the rooms are those of this process. It starts and stops with the application.
        server_limits: The bounds of all connections of this process together.
        trusted_proxies: The proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` give the client and
            the scheme, see :class:`~falcon_pachinko.server.forwarded.TrustedProxies`, under every server; ``()`` for
            none. By default the server decides; with a value, uvicorn's own handling is switched off.
        root_path: The path prefix of all URLs, such as ``/chat``, whether or not a proxy removes it; by default
            the one in the scope, such as that of an application in which this one is mounted.
        authenticate: ``async def authenticate(token: str) -> object | None`` returns the identity of a token,
            ``None`` for one that is not valid, and may raise ProviderUnavailable. With it a client refreshes
            its session in its connection, by ``clientRefreshSession``.

    Raises:
        RegistrationError: The application is not an ASGI application of Falcon or is installed already, an
            origin is not valid, or ``authenticate`` is not a coroutine function.
        ConfigurationError: A trusted proxy or the path prefix is not valid.
    """
    if not isinstance(app, falcon.asgi.App):
        raise RegistrationError(f"install() needs a falcon.asgi.App, not {app!r}")
    if hasattr(app, "ws_connection_manager"):
        raise RegistrationError("install() has been called for this application already")
    check_origins(allowed_origins)
    check_authenticate(authenticate)
    proxies = None if trusted_proxies is None else TrustedProxies(trusted_proxies)
    manager = WebSocketConnectionManager(backend, server_limits)
    lifespan = LifespanMiddleware(manager)
    attributes = {
        "ws_connection_manager": manager,
        "ws_routes": [],
        "ws_lifespan": lifespan,
        "ws_allowed_origins": frozenset(allowed_origins),
        "ws_trusted_proxies": proxies,
        "ws_root_path": check_root_path(root_path),
        "ws_admission": Admission(server_limits),
        "ws_authenticate": authenticate,
    }
    app.__class__ = make_class(type(app), attributes)
    assert isinstance(app, App)
    lifespan.app = app
    app.ws_options.max_receive_queue = 0
    app.add_middleware(lifespan)
    unavailable = UnavailableHandler()
    for error in (ProviderUnavailable, BackendUnavailable):
        app.add_error_handler(error, unavailable.answer)
    return app


def make_class(own_class: type, attributes: Mapping[str, Any]) -> type[Any]:
    """Return the class of one application: a subclass of its own class and of :class:`App`."""
    # NOTE: the application's class comes first, or Python refuses the layout.
    bases = (App,) if own_class in (falcon.asgi.App, App) else (own_class, App)
    names = {"__slots__": (), "__module__": own_class.__module__}
    return type(own_class.__name__, bases, {**names, **attributes})

"""The application: ``install`` adds a connection manager, WebSocket routes and a lifespan to Falcon's."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
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
from .route_config import Around, Authenticate, check_around, check_authenticate, check_origins
from .routing.route import CONNECTION_KEY
from .routing.routed_app import RoutedApp
from .server.admission import Admission, Refusal, refuse_handshake
from .server.forwarded import TrustedProxies
from .server.missing_bounds import turn_off_proxy_headers, warn_of_missing_bounds
from .server.root_path import check_root_path, redirect_to_root, strip_root_path
from .server.unavailable import UnavailableHandler
from .startup import UNSTARTED, LifespanMiddleware

LifespanFunction = TypeVar("LifespanFunction", bound=Callable[..., Any])


class App(RoutedApp):
    """A Falcon application with rooms, made by :func:`install`.

    Attributes:
        ws_admission: The counts of connections; ``overload`` is the reason not to get more.
    """

    # NOTE: falcon.asgi.App has slots, so an instance accepts another class only if that and its bases add none.
    #   The attributes of one application are those of a class of its own, made by install().
    __slots__ = ()

    ws_lifespan: ClassVar[LifespanMiddleware]
    ws_trusted_proxies: ClassVar[TrustedProxies | None]
    ws_admission: ClassVar[Admission]

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
    around: Sequence[Around] = (),
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
        around: Hooks around the handlers of all resources, outermost first: coroutine functions of two parameters,
            like :meth:`.WebSocketResource.around`.

    Raises:
        RegistrationError: The application is not an ASGI application of Falcon or is installed already, an
            origin is not valid, ``authenticate`` is not a coroutine function, or a hook cannot work.
        ConfigurationError: A trusted proxy or the path prefix is not valid.
    """
    if not isinstance(app, falcon.asgi.App):
        raise RegistrationError(f"install() needs a falcon.asgi.App, not {app!r}")
    if hasattr(app, "ws_connection_manager"):
        raise RegistrationError("install() has been called for this application already")
    check_origins(allowed_origins)
    check_authenticate(authenticate)
    check_around(around)
    proxies = None if trusted_proxies is None else TrustedProxies(trusted_proxies)
    manager = WebSocketConnectionManager(backend, server_limits)
    attributes = {
        "ws_connection_manager": manager,
        "ws_routes": [],
        "ws_urls": {},
        "ws_lifespan": LifespanMiddleware(manager),
        "ws_allowed_origins": frozenset(allowed_origins),
        "ws_trusted_proxies": proxies,
        "ws_root_path": check_root_path(root_path),
        "ws_admission": Admission(server_limits),
        "ws_authenticate": authenticate,
        "ws_around": tuple(around),
    }
    return extend(app, attributes)


def extend(app: falcon.asgi.App[Any, Any], attributes: Mapping[str, Any]) -> App:
    """Give an application a class with these attributes, its lifespan and its error handlers."""
    app.__class__ = make_class(type(app), attributes)
    assert isinstance(app, App)
    app.ws_lifespan.app = app
    app.ws_options.max_receive_queue = 0
    app.add_middleware(app.ws_lifespan)
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

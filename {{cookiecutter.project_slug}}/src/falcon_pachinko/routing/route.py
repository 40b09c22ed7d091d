"""Routes: Falcon's router calls one object per route, which creates a resource per connection."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, get_type_hints

import falcon.asgi

from ..connection.connection import Connection
from ..contract import Contract
from ..errors import RegistrationError
from ..history import Position
from ..lifecycle import Lifecycle
from ..resource import WebSocketResource
from ..rooms.manager import WebSocketConnectionManager
from ..route_config import RouteConfig, is_origin

logger = logging.getLogger(__name__)

ResourceFactory = Callable[..., WebSocketResource]

# Attributes that the framework sets on each resource; a class may not define them.
RESERVED_ATTRIBUTES = frozenset({"connection", "manager", "request_key"})

# The key of the connection in the scope.
CONNECTION_KEY = "falcon_pachinko.connection"
# SECURITY: each position of a reconnecting client costs a lookup per room.
MAX_POSITIONS = 64
MAX_PREVIOUS_IDS = 8
UNKNOWN_POSITION = Position("", 0)
CLIENT_ID = re.compile("[0-9a-f]{32}")
# RFC 6570 as Falcon parses it: a field may have a converter, as in {number:int}.
TEMPLATE_FIELD = re.compile(r"{\s*(\w+)[^}]*}")


class ClassFactory(functools.partial[WebSocketResource]):
    """A factory that gets the class of the resources as its first argument."""


class WebSocketRoute:
    """The object that Falcon calls for each connection to one URI template.

    Args:
        uri_template: The URI template.
        factory: Makes a resource.
        args: The arguments of the factory.
        kwargs: The keyword arguments of the factory.
        manager: The connection manager.
        config: The configuration.
    """

    def __init__(
        self,
        uri_template: str,
        factory: ResourceFactory,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        manager: WebSocketConnectionManager,
        config: RouteConfig,
    ) -> None:
        self.uri_template = uri_template
        self.factory = factory
        self.args = args
        self.kwargs = kwargs
        self.manager = manager
        self.config = config

    @property
    def resource_class(self) -> type[WebSocketResource]:
        """The class of the factory's resources.

        Raises:
            RegistrationError: The factory does not declare it.
        """
        factory = declaration_of(self.factory)
        if not isinstance(factory, type):
            try:
                factory = get_type_hints(factory).get("return")
            except (AttributeError, NameError, SyntaxError, TypeError):
                factory = None
        if isinstance(factory, type) and issubclass(factory, WebSocketResource):
            return factory
        raise RegistrationError(
            f"{self.factory!r} for {self.uri_template!r} does not declare its return type: annotate it"
            " with the resource's class, as in '-> ChatRoomResource'"
        )

    @property
    def contract(self) -> Contract:
        """The messages and close codes of this route.

        Raises:
            RegistrationError: The factory does not declare the resource's class.
        """
        resource_class = self.resource_class
        return Contract.of(resource_class, self.config.for_class(resource_class))

    async def on_websocket(
        self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket, **params: Any
    ) -> None:
        """Create a resource and run the life of the connection."""
        connection = await self.admit(req, ws)
        if connection is None:
            return
        resource, config = self.make_resource(connection)
        connection._configure(config)
        connection._identify(getattr(req.context, "user", None))
        connection.client_id = client_id_in(req)
        if config.history is not None:
            previous = req.get_param_as_list("connection", default=[])
            set_past(connection, req.get_param_as_list("since", default=[]), previous)
        await Lifecycle(resource, connection, self.manager._registry).run(req, params)

    async def admit(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> Connection | None:
        """Return the connection of a handshake; ``None`` if it has been refused."""
        connection: Connection = req.scope[CONNECTION_KEY]
        if connection.closed:
            return None  # a middleware has refused it
        if not origin_is_allowed(req, self.config.allowed_origins):
            logger.info(
                "%.200r: refused the origin %.200r at %.200r",
                req.path,
                req.get_header("Origin"),
                own_origin(req),
            )
            self.manager.backend.counters.refusals["origin"] += 1
            await connection.close()
            return None
        release_queue(ws)
        connection._websocket = ws
        connection._route = self.uri_template
        return connection

    def make_resource(self, connection: Connection) -> tuple[WebSocketResource, RouteConfig]:
        """Make the resource of a connection; return it with the configuration of its class on this route.

        Raises:
            RegistrationError: The factory has returned something else, or an object that it has returned before.
        """
        resource = self.factory(*self.args, **self.kwargs)
        if not isinstance(resource, WebSocketResource):
            raise RegistrationError(
                f"{self.factory!r} returned {resource!r}: it must return a WebSocketResource"
            )
        if "connection" in vars(resource):
            raise RegistrationError(
                f"{self.factory!r} returned {resource!r} again: it must return a new one each time"
            )
        for name in ("history", "limits"):
            if name in vars(resource):
                raise RegistrationError(
                    f"{type(resource).__qualname__} sets {name} on the resource: set it on the class, or pass"
                    f" route_config=RouteConfig({name}=...) to add_websocket_route"
                )
        resource.connection = connection
        resource.manager = self.manager
        return resource, self.config.for_class(type(resource))


def release_queue(ws: falcon.asgi.WebSocket) -> None:
    """Release the queue of events that Falcon makes for each connection, even where it is turned off."""
    # PERF: 0.7 KiB of each connection.
    receiver: Any = getattr(ws, "_buffered_receiver", None)
    if getattr(receiver, "_max_queue", None) == 0:
        receiver._messages = ()


def check_resource(
    template: str,
    factory: ResourceFactory,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    config: RouteConfig,
) -> RouteConfig:
    """Check a route before the first connection; return its configuration with the class's values.

    Raises:
        RegistrationError: The route cannot work; the message names the fault and its correction.
    """
    if not callable(factory):
        raise RegistrationError(
            f"{factory!r} for {template!r} is neither a class nor a callable: pass the class itself"
        )
    try:
        inspect.signature(factory).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise RegistrationError(
            f"{factory!r} for {template!r} cannot be called with these arguments: {error}"
        ) from error
    declared = declaration_of(factory)
    return check_class(template, declared, config) if isinstance(declared, type) else config


def declaration_of(factory: Any) -> Any:
    """Return what declares the class of a factory's resources: the class itself, or a function by its annotation."""
    if isinstance(factory, ClassFactory):
        return factory.args[0]
    return factory.func if isinstance(factory, functools.partial) else factory


def check_class(template: str, factory: type, config: RouteConfig) -> RouteConfig:
    """Check the resource class of a route.

    Raises:
        RegistrationError: The class cannot work.
    """
    name = factory.__qualname__
    if not issubclass(factory, WebSocketResource):
        raise RegistrationError(
            f"{name} for {template!r} is not a WebSocketResource: derive it from that class"
        )
    try:
        config = config.for_class(factory)
    except RegistrationError as error:
        raise RegistrationError(f"{name}.{error}") from None
    for method in ("on_connect", "on_disconnect", "authorize", "on_unhandled", "on_invalid"):
        if not inspect.iscoroutinefunction(getattr(factory, method)):
            raise RegistrationError(
                f"{name}.{method} must be a coroutine function: write 'async def'"
            )
    for base in factory.__mro__[: factory.__mro__.index(WebSocketResource)]:
        for attribute in RESERVED_ATTRIBUTES & vars(base).keys():
            raise RegistrationError(
                f"{base.__qualname__}.{attribute} would replace an attribute of the framework: give it"
                " another name"
            )
    fields = dict.fromkeys(TEMPLATE_FIELD.findall(template), "")
    try:
        inspect.signature(factory.on_connect).bind(None, None, None, **fields)
    except TypeError as error:
        raise RegistrationError(
            f"{name}.on_connect cannot be called with the fields of {template!r} ({', '.join(fields) or 'none'}): {error}"
        ) from error
    Contract.of(factory, config)
    return config


def set_past(connection: Connection, since: Sequence[str], previous: Sequence[str]) -> None:
    """Set what a reconnecting client has sent: its positions, and the ids of its earlier connections."""
    connection._since = positions_in(since)
    connection._previous_ids = frozenset(previous[:MAX_PREVIOUS_IDS])


def positions_in(since: Sequence[str]) -> tuple[Position, ...]:
    """Return the positions of a reconnecting client; an invalid one counts as unknown."""
    return tuple(Position.parse(text) or UNKNOWN_POSITION for text in since[:MAX_POSITIONS])


def client_id_in(req: falcon.asgi.Request) -> str | None:
    """Return the id that a client has made for all its connections; ``None`` without a valid one.

    The application may have a parameter of this name, so another value is no error.
    """
    found = req.get_param("client", default="")
    return found if CLIENT_ID.fullmatch(found) else None


def origin_is_allowed(req: falcon.asgi.Request, allowed_origins: Collection[str]) -> bool:
    """Return whether a page of the request's origin may connect.

    SECURITY: browsers open WebSockets to any host and send its cookies (RFC 6455 section 10.2), so by
    default only a page of the same scheme, host and port may connect. Programs other than browsers send no
    Origin and no other user's cookies.
    """
    origin = req.get_header("Origin")
    if origin is None or origin in allowed_origins or "*" in allowed_origins:
        return True
    own = own_origin(req)
    return bool(own) and without_default_port(origin.lower()) == own


def own_origin(req: falcon.asgi.Request) -> str:
    """Return the origin of a request's own URL, as its pages send it; empty without a valid header ``Host``."""
    scheme = "https" if req.scheme in ("https", "wss") else "http"
    origin = without_default_port(f"{scheme}://{req.get_header('Host') or ''}".lower())
    return origin if is_origin(origin) else ""


def without_default_port(origin: str) -> str:
    """Return an origin without the default port of its scheme."""
    default_port = ":443" if origin.startswith("https:") else ":80"
    return origin.removesuffix(default_port)

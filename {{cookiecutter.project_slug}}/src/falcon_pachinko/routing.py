"""Between Falcon's router and a resource: one object per route, one fresh resource per connection."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_type_hints

import falcon.asgi

from .connection.connection import Connection
from .contract import Contract
from .errors import RegistrationError
from .handlers import HandlerTable
from .history import History, Position
from .limits import Limits
from .resource import WebSocketResource
from .rooms.manager import WebSocketConnectionManager

logger = logging.getLogger(__name__)

ResourceFactory = Callable[..., WebSocketResource]

# What a resource class may not define: the framework calls or sets it on each resource.
RESERVED = frozenset(
    {
        "connect",
        "connection",
        "disconnect",
        "handler_table",
        "hold_off",
        "listen",
        "live",
        "manager",
        "table",
    }
)

# The connection stands under this name in the scope.
CONNECTION_KEY = "falcon_pachinko.connection"
# More rooms than a connection has that comes back; each costs a look.
MAX_POSITIONS = 64
NOWHERE = Position("", 0)
# RFC 6570 as Falcon reads it: a field may name its converter, as in {number:int}.
TEMPLATE_FIELD = re.compile(r"{\s*(\w+)[^}]*}")


class WebSocketRoute:
    """What Falcon calls for each connection to one URI template."""

    def __init__(
        self,
        uri_template: str,
        factory: ResourceFactory,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        manager: WebSocketConnectionManager,
        allowed_origins: Collection[str],
    ) -> None:
        self.uri_template = uri_template
        self.factory = factory
        self.args = args
        self.kwargs = kwargs
        self.manager = manager
        self.allowed_origins = allowed_origins

    @property
    def resource_class(self) -> type[WebSocketResource]:
        """What class the factory says that its resources are of.

        Raises:
            RegistrationError: It does not say so.
        """
        factory: Any = self.factory
        if isinstance(factory, functools.partial):
            factory = factory.func
        if not isinstance(factory, type):
            try:
                factory = get_type_hints(factory).get("return")
            except NameError:
                factory = None
        if isinstance(factory, type) and issubclass(factory, WebSocketResource):
            return factory
        raise RegistrationError(
            f"{self.factory!r} for {self.uri_template!r} does not say what it returns: annotate it"
            " with the resource's class, as in '-> ChatRoomResource'"
        )

    async def on_websocket(
        self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket, **params: Any
    ) -> None:
        """Make a resource and let it live the connection's life."""
        connection: Connection = req.scope[CONNECTION_KEY]
        if connection.closed:
            return  # a middleware has refused already
        if not origin_is_allowed(req, self.allowed_origins):
            logger.info("refused the origin %r for %s", req.get_header("Origin"), req.path)
            await connection.close()
            return
        resource = self.factory(*self.args, **self.kwargs)
        if not isinstance(resource, WebSocketResource):
            raise RegistrationError(
                f"{self.factory!r} returned {resource!r}: a WebSocketResource is needed"
            )
        if "connection" in vars(resource):
            raise RegistrationError(
                f"{self.factory!r} returned {resource!r} before: make a fresh one"
            )
        resource.connection = connection
        resource.manager = self.manager
        connection.limits = resource.limits
        connection.history = resource.history
        if resource.history is not None:
            connection.since = positions_in(req)
            connection.previous_id = req.get_param("connection", default="")
        connection.accept_handshake = ws.accept
        await resource.live(req, params)


def check_resource(
    template: str, factory: ResourceFactory, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Find what cannot work before anybody connects.

    Raises:
        RegistrationError: The message says what is wrong and what would be right.
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
    if isinstance(factory, functools.partial):
        factory = factory.func
    if not isinstance(factory, type):
        return
    name = factory.__qualname__
    if not issubclass(factory, WebSocketResource):
        raise RegistrationError(
            f"{name} for {template!r} is no WebSocketResource: derive it from that class"
        )
    if not isinstance(factory.limits, Limits):
        raise RegistrationError(f"{name}.limits is {factory.limits!r}: write limits = Limits(...)")
    if not (factory.history is None or isinstance(factory.history, History)):
        raise RegistrationError(
            f"{name}.history is {factory.history!r}: write history = History(...)"
        )
    for method in ("on_connect", "on_disconnect", "on_unhandled", "on_invalid"):
        if not inspect.iscoroutinefunction(getattr(factory, method)):
            raise RegistrationError(
                f"{name}.{method} must be a coroutine function: write 'async def'"
            )
    for base in factory.__mro__[: factory.__mro__.index(WebSocketResource)]:
        for attribute in RESERVED & vars(base).keys():
            if not isinstance(vars(base)[attribute], HandlerTable):
                raise RegistrationError(
                    f"{base.__qualname__}.{attribute} would take the place of the framework's own:"
                    " give it another name"
                )
    fields = dict.fromkeys(TEMPLATE_FIELD.findall(template), "")
    try:
        inspect.signature(factory.on_connect).bind(None, None, None, **fields)
    except TypeError as error:
        raise RegistrationError(
            f"{name}.on_connect cannot be called with the fields of {template!r} ({', '.join(fields) or 'none'}): {error}"
        ) from error
    Contract.of(factory)


def positions_in(req: falcon.asgi.Request) -> tuple[Position, ...]:
    """Where a client that has come back left off; what is no position counts as one that nobody knows."""
    given = req.get_param_as_list("since", default=[])
    return tuple(Position.parse(text) or NOWHERE for text in given[:MAX_POSITIONS])


def origin_is_allowed(req: falcon.asgi.Request, allowed_origins: Collection[str]) -> bool:
    """Whether a page of this origin may connect.

    SECURITY: browsers open WebSockets to any host and send its cookies along (RFC 6455 section 10.2),
    so by default only a page of the same host and port may (the scheme is the proxy's affair). Programs
    that are no browsers send no Origin and have no cookies of somebody else.
    """
    origin = req.get_header("Origin")
    if origin is None or origin in allowed_origins or "*" in allowed_origins:
        return True
    host = (req.get_header("Host") or "").lower()
    return bool(host) and origin.partition("://")[2].lower() == host

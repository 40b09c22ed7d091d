"""The configuration of a route."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import RegistrationError
from .history import History
from .limits import DEFAULT_LIMITS, Limits
from .presence import PresenceBatch

# Returns the identity of a token; None for a token that is not valid.
Authenticate = Callable[[str], Awaitable[object]]
# A hook around handlers: gets a HandlerCall and the rest of the chain, see connection/hooks.py.
Around = Callable[[Any, Any], Awaitable[Any]]

# RFC 6454 section 6.2: an origin as browsers serialise it.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([^\sA-Z/?#@:*\[\]]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

# Below the idle timeouts of common proxies (60 s in nginx) and of mobile networks.
HISTORY_HEARTBEAT_SECONDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfig:
    """The configuration of a route, fixed when the route is added.

    Attributes:
        limits: The bounds of its connections; by default those of the resource class.
        history: The history of the rooms that its connections join; by default that of the resource class.
        allowed_origins: Origins that may connect besides the application's own, such as
            ``https://example.com``; ``*`` allows all. By default those given to ``install``.
        presence_batch: How large rooms announce users that join through this route, and leave; by default
            each by its own message.
        authenticate: Refreshes sessions: gets the token of ``clientRefreshSession``. By default that given to
            ``install``; without one, that message is an unknown one.
        around: Hooks around the handlers of its connections, outermost first: coroutine functions of two parameters,
            like :meth:`.WebSocketResource.around`. They run inside those given to ``install``.

    Raises:
        RegistrationError: A value has the wrong type, or an origin is not valid.
    """

    limits: Limits = DEFAULT_LIMITS
    history: History | None = None
    allowed_origins: Collection[str] = ()
    presence_batch: PresenceBatch | None = None
    authenticate: Authenticate | None = None
    around: Sequence[Around] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.limits, Limits):
            raise RegistrationError(f"limits is {self.limits!r}: write limits = Limits(...)")
        if not (self.history is None or isinstance(self.history, History)):
            raise RegistrationError(f"history is {self.history!r}: write history = History(...)")
        if not (self.presence_batch is None or isinstance(self.presence_batch, PresenceBatch)):
            raise RegistrationError(
                f"presence_batch is {self.presence_batch!r}: write presence_batch=PresenceBatch(...)"
            )
        check_origins(self.allowed_origins)
        check_authenticate(self.authenticate)
        check_around(self.around)

    @property
    def heartbeat_interval(self) -> float | None:
        """The ``heartbeat_seconds`` in force; ``None`` for no heartbeat."""
        seconds = self.limits.heartbeat_seconds
        if seconds is None:
            return None if self.history is None else HISTORY_HEARTBEAT_SECONDS
        return seconds if seconds < math.inf else None

    def for_class(self, resource_class: Any) -> RouteConfig:
        """Return the configuration with the class's limits and history where the route has none."""
        limits = resource_class.limits if self.limits is DEFAULT_LIMITS else self.limits
        history = resource_class.history if self.history is None else self.history
        if limits is self.limits and history is self.history:
            return self
        return replace(self, limits=limits, history=history)

    def for_channel(self) -> RouteConfig:
        """Return the configuration of a room of a connection, to which heartbeats and the session belong."""
        limits = replace(self.limits, heartbeat_seconds=math.inf)
        return replace(self, authenticate=None, limits=limits)


def is_origin(text: str) -> bool:
    """Return whether a text is an origin (RFC 6454 section 6.2): lower case, without a default port."""
    return ORIGIN.fullmatch(text) is not None


def check_origins(allowed_origins: Collection[str]) -> None:
    """Check a list of origins, in which ``*`` stands for all.

    Raises:
        RegistrationError: One of them is not an origin, or a text is given instead of a list.
    """
    is_text = isinstance(allowed_origins, str)
    for origin in [allowed_origins] if isinstance(allowed_origins, str) else allowed_origins:
        if is_text or (origin != "*" and not is_origin(origin)):
            raise RegistrationError(
                f"allowed_origins has {origin!r}: give a list of origins such as"
                " 'https://chat.example.com', in lower case and without a default port, or '*'"
            )


def check_authenticate(authenticate: object) -> None:
    """Check the function that refreshes sessions.

    Raises:
        RegistrationError: It is not a coroutine function.
    """
    if authenticate is not None and not is_async(authenticate):
        raise RegistrationError(
            f"authenticate is {authenticate!r}: pass a coroutine function, 'async def authenticate(token)'"
        )


def is_async(function: object) -> bool:
    """Return whether an object is a coroutine function, or is called like one."""
    call = getattr(function, "__call__", None)  # noqa: B004 - an object with such a method will do
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def check_around(around: object) -> None:
    """Check the hooks around handlers.

    Raises:
        RegistrationError: They are not a list of coroutine functions of two parameters.
    """
    if not isinstance(around, (list, tuple)):
        raise RegistrationError(f"around is {around!r}: give a list of hooks, as in around=[hook]")
    for hook in around:
        check_hook(hook, repr(hook), "call, next")


def check_hook(hook: Any, name: str, parameters: str) -> None:
    """Check one hook around handlers.

    Args:
        hook: The hook.
        name: Its name in the text of the error.
        parameters: What it is called with.

    Raises:
        RegistrationError: It is not a coroutine function, or has other parameters.
    """
    if is_async(hook):
        with contextlib.suppress(TypeError):
            inspect.signature(hook).bind(*parameters.split(", "))
            return
    raise RegistrationError(
        f"{name} is not a hook around handlers: write 'async def around({parameters})'"
    )


DEFAULT_ROUTE_CONFIG = RouteConfig()

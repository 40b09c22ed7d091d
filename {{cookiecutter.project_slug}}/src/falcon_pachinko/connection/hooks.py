"""Hooks around the handlers of messages, composed once per resource class."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from ..errors import RegistrationError
from ..messages import Message
from ..route_config import Around, check_hook
from .connection import Connection
from .envelope import RequestPayload

Handler = Callable[..., Awaitable[Message | None]]


class HandlerCall(msgspec.Struct, frozen=True, eq=False):
    """A message that is about to be handled.

    Attributes:
        message_type: Its type; ``None`` for a binary message. One of those that the class handles.
        payload: Its payload, decoded and validated; the bytes of a binary message.
        ref: The reference of a request; ``None`` for a message without one.
        ws: The connection.
        resource: The resource of the connection.
        handler: The qualified name of the handler, such as ``ChatResource.send``.
    """

    message_type: str | None
    payload: Any
    ref: str | None
    ws: Connection
    resource: Any
    handler: str


NextHandler = Callable[[HandlerCall], Awaitable[Message | None]]


class HookMethods:
    """The hook of a resource class."""

    async def around(self, call: HandlerCall, next: NextHandler) -> Message | None:
        """Run around each handler of the class; the base class calls the handler, and is not run at all.

        It is called for messages and binary messages that have a handler and a valid payload, inside the hooks of
        the route and of ``install``. What it encloses: the rate of the type, ``authorize`` and the handler. With
        ``once`` it runs once for a request, too: an answer from the kept reply passes no hook.

        An exception has the same effect as one of the handler, and the time counts as the handler's.

        Args:
            call: The message.
            next: ``await next(call)`` runs the rest and returns the handler's reply. It may be given another
                payload (``msgspec.structs.replace(call, payload=...)``), may be called again, or not at all.

        Returns:
            The reply, of a class that the return annotation of the handler names. A binary message has none.
        """
        return await next(call)


def hooks_of(owner: Any, around: Sequence[Around]) -> tuple[Around, ...]:
    """Return the hooks of a resource class, outermost first: those of its route, then its own.

    Raises:
        RegistrationError: Its own one is not a coroutine function of two parameters, or is marked as a handler.
    """
    own = getattr(owner, "around", HookMethods.around)
    if own is HookMethods.around:
        return tuple(around)
    name = f"{owner.__qualname__}.around"
    if hasattr(own, "__message_types__") or hasattr(own, "__handles_binary__"):
        raise RegistrationError(f"{name} is the name of the hook: give the handler another one")
    check_hook(own, name, "self, call, next")
    return (*around, lambda call, following: own(call.resource, call, following))


def hooked(handler: Handler, hooks: Sequence[Around], message_type: str | None) -> Handler:
    """Return a handler that runs hooks around another one.

    Args:
        handler: The other one.
        hooks: The hooks, outermost first.
        message_type: Its type; the payload of such a message is a RequestPayload. ``None`` for binary messages.
    """
    chain: NextHandler = functools.partial(run_handler, handler)
    for hook in reversed(hooks):
        chain = functools.partial(run_hook, hook, chain)
    name = handler.__qualname__

    # NOTE: a coroutine of its own, by whose name a slow handler is logged.
    @functools.wraps(handler)
    async def call(resource: Any, ws: Connection, payload: Any) -> Message | None:
        ref = None
        if message_type is not None:
            request: RequestPayload = payload
            payload, ref = request.payload, request.ref or None
        return await chain(HandlerCall(message_type, payload, ref, ws, resource, name))

    return call


def run_hook(hook: Around, chain: NextHandler, call: HandlerCall) -> Awaitable[Message | None]:
    """Call a hook with the rest of the chain."""
    return hook(call, chain)


def run_handler(handler: Handler, call: HandlerCall) -> Awaitable[Message | None]:
    """Call the handler at the end of a chain."""
    return handler(call.resource, call.ws, call.payload)

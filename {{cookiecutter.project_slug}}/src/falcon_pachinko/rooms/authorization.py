"""Authorisation: the calls of a resource's ``authorize``, before a join and before a handler."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ..connection.connection import Connection
from ..errors import Forbidden, RegistrationError
from ..messages import Message

logger = logging.getLogger(__name__)

Handler = Callable[..., Awaitable[Message | None]]

JOIN = "join"
SEND = "send"
REFUSED_JOIN = "You may not join this room."
REFUSED = "You may not do this."


async def require(resource: Any, action: str, room: str | None, identity: Any) -> None:
    """Ask a resource whether a user may act in a room.

    Raises:
        Forbidden: The user may not.
    """
    is_allowed = await resource.authorize(identity, action, room)
    if is_allowed is None:
        name = type(resource).__name__
        logger.warning("%s.authorize returned None: return True to allow", name)
    if not is_allowed:
        raise Forbidden(REFUSED_JOIN if action == JOIN else REFUSED)


def authorized(handler: Handler, action: str) -> Handler:
    """Return a handler that asks first, for each room of the connection; a muted user does not send."""

    @functools.wraps(handler)
    async def call(resource: Any, ws: Connection, payload: Any) -> Message | None:
        registry = resource.manager._registry
        rooms = registry.rooms_of(ws)
        if action == SEND:
            registry.enforcement.check_send(ws, rooms)
        for room in rooms or (None,):
            await require(resource, action, room, ws.identity)
        return await handler(resource, ws, payload)

    return call


def check_action(action: object) -> None:
    """Check the action of a handler.

    Raises:
        RegistrationError: It is not a text, or is empty.
    """
    if not isinstance(action, str) or not action.strip():
        raise RegistrationError(
            f"handles_message(action={action!r}): name the action that authorize() gets, as in action='send'"
        )

"""The contract of a route: the messages that it handles, the messages that it sends, its close codes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from .close_codes import (
    ACCESS_DENIED,
    BAD_ROOM_NAME,
    INTERNAL_ERROR,
    MESSAGE_TOO_BIG,
    SERVICE_RESTART,
    SESSION_ENDED,
    SLOW_READER,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_MESSAGES,
    TRY_AGAIN_LATER,
    check_close_code,
)
from .errors import RegistrationError
from .handlers import HandlerTable
from .limits import Limits
from .messages import (
    SERVER_MESSAGES,
    Message,
    ServerError,
    ServerJoined,
    ServerLeft,
    ServerPong,
    ServerPosition,
    ServerSessionExpiring,
)
from .presence import ServerPresenceChanged
from .route_config import RouteConfig


@dataclass(frozen=True, slots=True)
class Contract:
    """The checked declarations of a resource class on a route.

    Attributes:
        name: The name of the class.
        handlers: The messages that it handles.
        sends: The classes of the messages that it sends by their type, including the framework's.
        sends_binary: Whether it sends binary messages.
        closes: The meaning of each close code, including the framework's.
        has_positions: Whether messages may carry their position in the room.
        has_rooms: Whether a connection may be in several rooms, which messages name.
    """

    name: str
    handlers: HandlerTable
    sends: dict[str, type[Message]]
    sends_binary: bool
    closes: dict[int, str]
    has_positions: bool
    has_rooms: bool = False

    @classmethod
    def of(cls, owner: Any, config: RouteConfig, *, has_rooms: bool = False) -> Contract:
        """Read the declarations of a ``WebSocketResource`` class on a route.

        Args:
            owner: The class.
            config: The configuration of the route.
            has_rooms: Whether a connection to the route may be in several rooms.

        Raises:
            RegistrationError: A declaration is not a message or not a close code, or two messages have
                the same type.
        """
        name, declared = owner.__qualname__, owner.sends
        has_positions = config.history is not None
        handlers = HandlerTable.of(owner, config)
        if isinstance(declared, (tuple, list)):
            if config.presence_batch is not None:
                declared = (*declared, ServerPresenceChanged)
            has_positions = has_positions or ServerPosition in declared
            if has_positions or config.heartbeat_interval is not None:
                declared = (*declared, ServerPosition)
            replies = [each for classes in handlers.reply_types.values() for each in classes]
            declared = (*declared, *replies)
            if has_rooms:
                declared = (*declared, ServerJoined, ServerLeft)
        sends, sends_binary = sent_messages(name, declared)
        closes = close_meanings(name, owner.closes, config.limits)
        return cls(name, handlers, sends, sends_binary, closes, has_positions, has_rooms)


def sent_messages(name: str, declared: Any) -> tuple[dict[str, type[Message]], bool]:
    """Return the declared messages by type, and whether ``bytes`` is declared."""
    if not isinstance(declared, (tuple, list)):
        raise RegistrationError(f"{name}.sends is {declared!r}: write sends = (FirstMessage, ...)")
    found: dict[str, type[Message]] = {}
    for each in dict.fromkeys((*declared, ServerSessionExpiring, ServerError, ServerPong)):
        if each is bytes:
            continue
        if not isinstance(each, type) or not issubclass(each, Message) or each is Message:
            raise RegistrationError(
                f"{name}.sends has {each!r}: list classes derived from Message, and bytes for binary messages"
            )
        if each.__struct_config__.array_like:
            raise RegistrationError(
                f"{name}.sends has {each.__qualname__}, which is array_like: an envelope needs an object"
            )
        message_type = str(each.__struct_config__.tag)
        if SERVER_MESSAGES.get(message_type, each) is not each:
            raise RegistrationError(
                f"{name}.sends has {each.__qualname__} of type {message_type!r}, which the framework sends:"
                " give it another name or tag"
            )
        if message_type in found:
            raise RegistrationError(
                f"{name}.sends has {found[message_type].__qualname__} and {each.__qualname__}, both of"
                f" type {message_type!r}: give one of them another name or tag"
            )
        found[message_type] = each
    return found, bytes in declared


def close_meanings(name: str, declared: Any, limits: Limits) -> dict[int, str]:
    """Return the meaning of each close code, in ascending order."""
    meanings = {
        MESSAGE_TOO_BIG: f"a message is larger than {limits.max_message_bytes:,} bytes",
        INTERNAL_ERROR: "internal server error",
        SERVICE_RESTART: "the server is restarting or shutting down; the reason may name a wait in seconds: retry=1.7",
        TRY_AGAIN_LATER: "sign-in is temporarily unavailable",
        SLOW_READER: "the client reads too slowly",
        TOO_MANY_MESSAGES: "the client keeps sending too many messages after an error reply",
        BAD_ROOM_NAME: "the room name is invalid",
        SESSION_ENDED: "the session has ended: sign in again",
        ACCESS_DENIED: "the user may not do this",
        TOO_MANY_CONNECTIONS: "the user has too many connections",
    }
    try:
        for code, meaning in dict(declared).items():
            meanings[check_close_code(int(code))] = str(meaning)
    except (TypeError, ValueError) as error:
        raise RegistrationError(
            f"{name}.closes is {declared!r}: write closes = {{4401: 'sign in first'}} ({error})"
        ) from error
    return dict(sorted(meanings.items()))


def first_paragraph(documented: object) -> str:
    """Return the first paragraph of an object's own docstring on one line; empty without one."""
    text = getattr(documented, "__doc__", None)
    return (
        " ".join(inspect.cleandoc(text).partition("\n\n")[0].split()).replace("``", "`")
        if text
        else ""
    )

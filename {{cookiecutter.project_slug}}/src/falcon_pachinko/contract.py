"""The contract of a resource: what its clients may say, what they are told, and why it closes.

Nothing here waits or knows a socket.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from .close_codes import (
    INTERNAL_ERROR,
    MESSAGE_TOO_BIG,
    SERVICE_RESTART,
    SLOW_READER,
    TOO_MANY_MESSAGES,
    check_close_code,
)
from .errors import RegistrationError
from .handlers import HandlerTable
from .limits import Limits
from .messages import Message, ServerError, ServerPosition


@dataclass(frozen=True, slots=True)
class Contract:
    """What one resource class declares, checked.

    Attributes:
        name: The class's own.
        handlers: What clients may say.
        sends: What clients are told: each message's class by its type, the framework's ``ServerError``
            among them.
        sends_binary: Whether they may get binary messages too.
        closes: Why the connection may be closed: a sentence for people by its code, the framework's
            own ones among them.
    """

    name: str
    handlers: HandlerTable
    sends: dict[str, type[Message]]
    sends_binary: bool
    closes: dict[int, str]

    @property
    def has_positions(self) -> bool:
        """Whether messages may have their position in the room."""
        return ServerPosition in self.sends.values()

    @classmethod
    def of(cls, owner: Any) -> Contract:
        """Read the declaration of a ``WebSocketResource`` class.

        Raises:
            RegistrationError: It declares something that is no message or no close code, or two
                messages of one type.
        """
        name = owner.__qualname__
        declared = owner.sends
        if owner.history is not None and isinstance(declared, (tuple, list)):
            declared = (*declared, ServerPosition)
        sends, sends_binary = sent_messages(name, declared)
        closes = closing_meanings(name, owner.closes, owner.limits)
        return cls(name, owner.handler_table(), sends, sends_binary, closes)


def sent_messages(name: str, declared: Any) -> tuple[dict[str, type[Message]], bool]:
    """The declared messages by their types, and whether ``bytes`` is declared."""
    if not isinstance(declared, (tuple, list)):
        raise RegistrationError(f"{name}.sends is {declared!r}: write sends = (FirstMessage, ...)")
    found: dict[str, type[Message]] = {}
    for each in dict.fromkeys((*declared, ServerError)):
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
        if message_type in found:
            raise RegistrationError(
                f"{name}.sends has {found[message_type].__qualname__} and {each.__qualname__}, both of the"
                f" type {message_type!r}: give one another name or tag"
            )
        found[message_type] = each
    return found, bytes in declared


def closing_meanings(name: str, declared: Any, limits: Limits) -> dict[int, str]:
    """The meaning of each close code, the lowest first."""
    meanings = {
        MESSAGE_TOO_BIG: f"a message is larger than {limits.max_message_bytes:,} bytes",
        INTERNAL_ERROR: "the server has failed",
        SERVICE_RESTART: "the server stops",
        SLOW_READER: "the client reads too slowly",
        TOO_MANY_MESSAGES: "the client goes on to send too many messages, though it was told so",
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
    """What the docstring of a class or function says first, on one line; empty where it has none of its own."""
    text = getattr(documented, "__doc__", None)
    return (
        " ".join(inspect.cleandoc(text).partition("\n\n")[0].split()).replace("``", "`")
        if text
        else ""
    )

"""Handlers: what comes in indexes a table, compiled once per class.

Nothing here waits or knows a socket.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar, get_origin, get_type_hints

import msgspec

from .errors import InvalidPayload, RegistrationError

Function = TypeVar("Function", bound=Callable[..., Awaitable[None]])
Handler = Callable[..., Awaitable[None]]


def handles_message(message_type: str) -> Callable[[Function], Function]:
    """Make a method of a resource the handler of one message type.

    The method is ``async def name(self, ws, payload)``. The annotation of ``payload`` says what is
    accepted: ``dict`` (or none) takes any object; a ``msgspec.Struct`` is decoded and validated in the
    same pass as the message. A missing payload counts as ``{}`` where nothing is required.

    Raises:
        RegistrationError: The type is not a text with at least one character.
    """
    if not isinstance(message_type, str) or not message_type:
        raise RegistrationError(
            f"handles_message({message_type!r}): name the message type, as in @handles_message('say')"
        )

    def mark(function: Function) -> Function:
        function.__message_types__ = (*getattr(function, "__message_types__", ()), message_type)  # type: ignore[attr-defined]
        return function

    return mark


def handles_binary(function: Function) -> Function:
    """Make ``async def name(self, ws, data: bytes)`` the handler of all binary messages of a resource."""
    function.__handles_binary__ = True  # type: ignore[attr-defined]
    return function


class HandlerTable:
    """What the wire can reach in one resource class: its marked methods, and nothing else.

    Compiled once per class. An overridden method keeps the mark that it has in the base class.

    Raises:
        RegistrationError: A handler is no coroutine function, has a wrong signature or an annotation
            that cannot be decoded, or two handlers claim the same messages.
    """

    def __init__(self, owner: type) -> None:
        self.binary: Handler | None = None
        self.by_type: dict[str, Handler] = {}
        self.payload_types: dict[str, Any] = {}
        for handler, marks, binary in marked_methods(owner):
            parameter = payload_parameter(handler)
            if binary:
                if self.binary is not None:
                    raise RegistrationError(
                        f"{owner.__qualname__} has two binary handlers: keep one @handles_binary"
                    )
                self.binary = handler
            for message_type in marks:
                if message_type in self.by_type:
                    raise RegistrationError(
                        f"{handler.__qualname__} and {self.by_type[message_type].__qualname__} both handle"
                        f" {message_type!r}: keep one (to replace an inherited handler, give yours its name)"
                    )
                self.by_type[message_type] = handler
                self.payload_types[message_type] = parameter
        self.envelopes = {
            envelope_struct(t, self.payload_types[t]): handler
            for t, handler in self.by_type.items()
        }
        try:
            self.decoder = msgspec.json.Decoder(union_of(self.envelopes))
        except TypeError as error:
            raise RegistrationError(
                f"{owner.__qualname__}: a payload annotation cannot be decoded: {error}"
            ) from error

    def decode(self, text: str) -> tuple[Handler, Any] | None:
        """Find the handler of a message and its payload; ``None`` where there is none for it.

        Raises:
            InvalidPayload: The type is known and the payload does not fit.
        """
        try:
            envelope = self.decoder.decode(text)
        except (ValueError, RecursionError) as error:
            # PERF: a second look at the type is paid for by bad messages only.
            if (message_type := type_of(text)) not in self.by_type:
                return None
            reason, field = explain(error)
            raise InvalidPayload(message_type, field, reason) from None
        return self.envelopes[type(envelope)], envelope.payload


class Head(msgspec.Struct):
    """As much of an envelope as tells its type."""

    type: str


class Nothing(msgspec.Struct, tag_field="type", tag=""):
    """Keeps the union from being empty; no handler has the empty type."""

    payload: msgspec.UnsetType


HEAD_DECODER = msgspec.json.Decoder(Head)


def type_of(text: str) -> str:
    """The type that a message names; empty where it names none."""
    try:
        return HEAD_DECODER.decode(text).type
    except (ValueError, RecursionError):
        return ""


def explain(error: Exception) -> tuple[str, str]:
    """What was expected, and where in the payload."""
    reason, _, path = str(error).partition(" - at `$")
    return reason, path.removesuffix("`").removeprefix(".payload").removeprefix(".")


def marked_methods(owner: type) -> Iterator[tuple[Handler, tuple[str, ...], bool]]:
    """The handlers of a class in the order of definition, each as the class itself would call it."""
    marks: dict[str, tuple[tuple[str, ...], bool]] = {}
    for base in reversed(owner.__mro__):
        for name, value in vars(base).items():
            found = (
                getattr(value, "__message_types__", ()),
                getattr(value, "__handles_binary__", False),
            )
            if any(found):
                marks[name] = found
    for name, (message_types, binary) in marks.items():
        if (handler := getattr(owner, name)) is not None:  # None in a subclass takes it away
            yield handler, message_types, binary


def payload_parameter(handler: Handler) -> Any:
    """Check the signature ``(self, ws, payload)`` and return the payload's annotation."""
    if not inspect.iscoroutinefunction(handler):
        raise RegistrationError(
            f"{handler.__qualname__} must be a coroutine function: write 'async def'"
        )
    signature = inspect.signature(handler)
    try:
        bound = signature.bind(None, None, None)
    except TypeError as error:
        raise RegistrationError(
            f"{handler.__qualname__}{signature} cannot be called as handler: it takes (self, ws, payload)"
        ) from error
    try:
        hints = get_type_hints(handler, include_extras=True)
    except NameError as error:
        raise RegistrationError(
            f"{handler.__qualname__}: an annotation cannot be resolved ({error}): import the name at module level"
        ) from error
    annotation = hints.get(list(bound.arguments)[-1], dict)
    return dict[str, Any] if annotation in (dict, Any, object) else annotation


def envelope_struct(message_type: str, payload_type: Any) -> type[msgspec.Struct]:
    """The struct of one whole message. A payload in which nothing is required may also be missing."""
    payload: tuple[Any, ...] = ("payload", payload_type)
    if may_be_missing(payload_type):
        payload = (*payload, msgspec.field(default_factory=payload_type))
    return msgspec.defstruct("Envelope", [payload], tag_field="type", tag=message_type, frozen=True)


def may_be_missing(payload_type: Any) -> bool:
    """Whether a missing payload counts as ``{}``: that is a dict, or a struct without required fields."""
    return get_origin(payload_type) is dict or (
        isinstance(payload_type, type)
        and issubclass(payload_type, msgspec.Struct)
        and not any(field.required for field in msgspec.structs.fields(payload_type))
    )


def union_of(types: Iterable[type]) -> Any:
    """One type for the decoder; where there is no handler, one that a stranger's message cannot fit."""
    return functools.reduce(operator.or_, types, Nothing)

"""Messages: what goes out is encoded once, what comes in indexes a table.

The envelope both ways is ``{"type": "...", "payload": {...}}``. Nothing here waits or knows a socket.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_origin, get_type_hints

import msgspec

from .errors import InvalidPayload, RegistrationError

Function = TypeVar("Function", bound=Callable[..., Awaitable[None]])
Handler = Callable[..., Awaitable[None]]

ENCODER = msgspec.json.Encoder()

# RFC 6455 section 5.2; an EVENT is no frame: the server itself knows what to do with it.
EVENT, TEXT, BINARY = 0x0, 0x1, 0x2


def message_type_of(class_name: str) -> str:
    """``ServerNewMessage`` is sent as ``serverNewMessage``."""
    return class_name[:1].lower() + class_name[1:]


class Message(msgspec.Struct, frozen=True, tag_field="type", tag=message_type_of, rename="camel"):
    """Base of typed outgoing messages: the fields are the payload, the class name gives the type.

    ``class ServerUserTyping(Message)`` with ``user: str`` and ``is_typing: bool`` is sent as
    ``{"type": "serverUserTyping", "payload": {"user": "Alice", "isTyping": true}}``.
    ``tag="..."`` in the class's brackets sets another type.
    """


class ServerError(Message, frozen=True):
    """The framework's answer to a message that it or a handler cannot use.

    Attributes:
        code: A word for programs: ``unknownMessage``, ``invalidPayload``, ``tooManyMessages``, or a
            ``MessageError``'s own.
        error: A sentence for people.
        field: Where in the payload, if it is about one place.
    """

    code: str
    error: str
    field: str | msgspec.UnsetType = msgspec.UNSET


class Outgoing:
    """One message on its way out, encoded once for everybody who gets it.

    Attributes:
        size_bytes: How much of a bound it takes.
        frame: The finished WebSocket frame (RFC 6455 section 5.2), once somebody has asked for it.

    Raises:
        TypeError: The message holds something that JSON cannot.
        UnicodeEncodeError: A text in it has half a character (a lone surrogate).
    """

    __slots__ = ("asgi_event", "data", "frame", "opcode", "size_bytes")

    def __init__(self, message: object) -> None:
        data = ENCODER.encode(message)
        if isinstance(message, Message):
            data = enclose(type(message), data)
        # PERF: what fill() does, without the call.
        self.opcode = TEXT
        self.data = data
        self.size_bytes = len(data)
        self.frame: bytes | None = None
        self.asgi_event: Mapping[str, Any] | None = None

    def fill(self, opcode: int, data: bytes) -> None:
        """Set what every message has."""
        self.opcode = opcode
        self.data = data
        self.size_bytes = len(data)
        self.frame = None
        self.asgi_event = None

    @classmethod
    def of(cls, message: object) -> Outgoing:
        """A message that may have been encoded already."""
        return message if isinstance(message, Outgoing) else cls(message)

    @classmethod
    def of_text(cls, text: str) -> Outgoing:
        """A text message that is not JSON, or is JSON already."""
        self = cls.__new__(cls)
        self.fill(TEXT, text.encode())
        return self

    @classmethod
    def of_bytes(cls, data: bytes) -> Outgoing:
        """A binary message."""
        self = cls.__new__(cls)
        self.fill(BINARY, data)
        return self

    @classmethod
    def of_event(cls, event: Mapping[str, Any]) -> Outgoing:
        """An ASGI event such as a close, which keeps its place among the messages."""
        self = cls.__new__(cls)
        self.fill(EVENT, b"")
        self.asgi_event = event
        return self

    @property
    def event(self) -> Mapping[str, Any]:
        """The message as an ASGI event."""
        if self.asgi_event is None:
            if self.opcode == TEXT:
                self.asgi_event = {"type": "websocket.send", "text": self.data.decode()}
            else:
                self.asgi_event = {"type": "websocket.send", "bytes": self.data}
        return self.asgi_event

    def make_frame(self) -> bytes:
        """Build the frame: final, not masked, not compressed."""
        first, size = 0x80 | self.opcode, self.size_bytes
        if size < 126:
            header = bytes((first, size))
        elif size < 65_536:
            header = bytes((first, 126)) + size.to_bytes(2, "big")
        else:
            header = bytes((first, 127)) + size.to_bytes(8, "big")
        self.frame = frame = header + self.data
        return frame


envelope_heads: dict[type[Message], tuple[bytes, int]] = {}


def enclose(message_class: type[Message], data: bytes) -> bytes:
    """Make the envelope of an encoded message: its fields follow its type, and shall be the payload."""
    # PERF: msgspec writes {"type":"t","a":1}; to put a brace in is half as dear as to build a dict first.
    known = envelope_heads.get(message_class)
    if known is None:
        known = envelope_heads[message_class] = envelope_head(message_class)
    head, skipped_bytes = known
    return head + (data[skipped_bytes:] or b"}") + b"}"


def envelope_head(message_class: type[Message]) -> tuple[bytes, int]:
    """What stands before the fields in the envelope, and how much stands before them in the struct.

    Raises:
        TypeError: The class is written as an array.
    """
    config = message_class.__struct_config__
    if config.array_like:
        raise TypeError(f"{message_class.__qualname__} is array_like: an envelope needs an object")
    name, tag = ENCODER.encode(config.tag_field), ENCODER.encode(config.tag)
    return b'{"type":' + tag + b',"payload":{', len(name) + len(tag) + len("{:,")


def size_bytes_of(message: str | bytes) -> int:
    """The size of a message on the wire, without its frame's header."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode("utf-8", "surrogatepass"))


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
        payload_types: dict[str, Any] = {}
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
                payload_types[message_type] = parameter
        self.envelopes = {
            envelope_struct(t, payload_types[t]): handler for t, handler in self.by_type.items()
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
    return hints.get(list(bound.arguments)[-1], dict)


def envelope_struct(message_type: str, payload_type: Any) -> type[msgspec.Struct]:
    """The struct of one whole message. A payload in which nothing is required may also be missing."""
    if payload_type in (dict, Any, object):
        payload_type = dict[str, Any]
    payload: tuple[Any, ...] = ("payload", payload_type)
    if get_origin(payload_type) is dict or has_no_required_field(payload_type):
        payload = (*payload, msgspec.field(default_factory=payload_type))
    return msgspec.defstruct("Envelope", [payload], tag_field="type", tag=message_type, frozen=True)


def has_no_required_field(payload_type: Any) -> bool:
    """Whether it is a struct that ``{}`` fits."""
    return (
        isinstance(payload_type, type)
        and issubclass(payload_type, msgspec.Struct)
        and not any(field.required for field in msgspec.structs.fields(payload_type))
    )


def union_of(types: Iterable[type]) -> Any:
    """One type for the decoder; where there is no handler, one that a stranger's message cannot fit."""
    return functools.reduce(operator.or_, types, Nothing)

"""Message handlers: a table per resource class, indexed by the message type.

Plain code without sockets or waiting.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, get_type_hints

import msgspec

from .connection.entries import Entry
from .connection.envelope import envelope_struct, explain, union_of
from .connection.hooks import hooked, hooks_of
from .connection.replies import reply_types_of, request_of
from .connection.type_rate import TypeRate, limited
from .connection.websocket_like import WebSocketLike
from .errors import InvalidPayload, RegistrationError
from .messages import (
    CLIENT_PING,
    CLIENT_REFRESH_SESSION,
    CLIENT_REPLY,
    RESERVED_CLIENT_TYPES,
    ClientPing,
    ClientReply,
    Message,
    RefreshSession,
    ServerAck,
    ServerPong,
)
from .rooms.authorization import authorized, check_action
from .rooms.once import Once, run_once
from .rooms.refresh import refresh_session
from .route_config import DEFAULT_ROUTE_CONFIG, Around, RouteConfig

Function = TypeVar("Function", bound=Callable[..., Awaitable[Message | None]])
Handler = Callable[..., Awaitable[Message | None]]


class Mark(NamedTuple):
    """What ``handles_message`` declares."""

    message_type: str
    rate: TypeRate | None
    action: str | None
    once: Once | None


def handles_message(
    message_type: str,
    *,
    per_second: float | None = None,
    burst: int | None = None,
    action: str | None = None,
    once: bool = False,
    repeatable: bool = False,
) -> Callable[[Function], Function]:
    """Mark a method of a resource as the handler of one message type.

    The method is ``async def name(self, ws, payload)``. The annotation of ``payload`` is its type: ``dict``
    (or none) accepts any object; a :class:`~falcon_pachinko.messages.Payload` or another ``msgspec.Struct`` is decoded and
    validated in the same pass as the message. A missing payload counts as ``{}`` if no field is required.

    It may return a :class:`~falcon_pachinko.messages.Message`, which its return annotation names: the reply, sent to this
    client only, with the ``ref`` of the request. A request with a ``ref`` whose handler returns nothing is answered with
    ``serverAck``, and a failed one with a ``serverError`` that has the ``ref``. Without a ``ref`` nothing is acknowledged.

    Args:
        message_type: The type.
        per_second: The sustained rate of this type for each user (for each connection without a user), over
            all connections of this process; by default only the rate of all messages counts. A valid
            message above the rate is answered with ``serverError``, code ``tooManyMessages``, and not
            handled.
        burst: The number of such messages handled at once; by default those of one second, at least 1.
        action: What the handler does, such as ``send``. Before it, ``authorize(user, action, room)`` of the
            resource is called for each room of the connection, or once with ``None`` without a room; a refusal
            is answered with ``serverError``, code ``forbidden``. By default nothing is called.
        once: Whether a request that its client sends again, with the same ``ref`` and the same id of the client, is
            answered from the first reply, kept for ``limits.once_seconds``. The handler does not run again for it,
            in any process; if its first execution was interrupted, the answer is ``serverError``, code ``interrupted``.
        repeatable: With ``once``: the handler does run again for a request whose execution was interrupted before it
            had published, because a second execution has no second effect.

    Raises:
        RegistrationError: The type is not a text, empty, or reserved by the framework; a rate is not above zero; an
            action is not a text, or empty; or ``repeatable`` is given without ``once``.
    """
    if not isinstance(message_type, str) or not message_type:
        raise RegistrationError(
            f"handles_message({message_type!r}): name the message type, as in @handles_message('say')"
        )
    if message_type in RESERVED_CLIENT_TYPES:
        raise RegistrationError(
            f"handles_message({message_type!r}): the framework handles this type, choose another one"
        )
    rate = TypeRate.of(per_second, burst)
    if action is not None:
        check_action(action)
    mark_of_type = Mark(message_type, rate, action, Once.of(once, repeatable))

    def mark(function: Function) -> Function:
        marks = getattr(function, "__message_types__", ())
        function.__message_types__ = (*marks, mark_of_type)  # type: ignore[attr-defined]
        return function

    return mark


def handles_binary(function: Function) -> Function:
    """Mark ``async def name(self, ws, data: bytes)`` as the handler of a resource's binary messages.

    It has no ``action``: call ``self.authorize`` in it where the user may not send.
    """
    function.__handles_binary__ = True  # type: ignore[attr-defined]
    return function


class HandlerTable:
    """The marked methods of a resource class: the only methods that a message can reach.

    An overridden method keeps the mark of the base class.

    Args:
        owner: The resource class.
        refreshes: Whether the framework handles ``clientRefreshSession``.
        around: The hooks around its handlers, outside its own one; not around the framework's.

    Attributes:
        decoder: Decodes a text to one of the envelopes; raises for a text that matches none.
        entries: The handler and its replies by the envelope's class, including the framework's own.
        binary: The handler of binary messages.
        by_type: The handlers by message type.
        rates: The rates of the message types that have one of their own.
        once: The message types whose requests are handled once.
        payload_types: The annotations of the payloads by message type.
        reply_types: The classes of the replies of a handler by message type.

    Raises:
        RegistrationError: A handler is not a coroutine function, has a wrong signature or an annotation
            that cannot be decoded, or two handlers have the same message type; or the class's hook cannot work.
    """

    def __init__(
        self, owner: type, *, refreshes: bool = False, around: Sequence[Around] = ()
    ) -> None:
        self.binary: Handler | None = None
        self.by_type: dict[str, Handler] = {}
        self.rates: dict[str, TypeRate] = {}
        self.payload_types: dict[str, Any] = {}
        self.reply_types: dict[str, tuple[type[Message], ...]] = {}
        self.once: dict[str, Once] = {}
        actions: dict[str, str] = {}
        hooks = hooks_of(owner, around)
        for handler, marks, binary in marked_methods(owner):
            parameter, reply_types = payload_parameter(handler), reply_types_of(handler)
            if binary:
                if reply_types != (ServerAck,):
                    raise RegistrationError(
                        f"{handler.__qualname__} returns a message, but a binary message has no reply: send it"
                        " with ws.send_media() and annotate None"
                    )
                if self.binary is not None:
                    raise RegistrationError(
                        f"{owner.__qualname__} has two binary handlers: keep one @handles_binary"
                    )
                self.binary = hooked(handler, hooks, None) if hooks else handler
            for message_type, rate, action, once in marks:
                if message_type in self.by_type:
                    raise RegistrationError(
                        f"{handler.__qualname__} and {self.by_type[message_type].__qualname__} both handle"
                        f" {message_type!r}: keep one (to replace an inherited handler, give yours its name)"
                    )
                self.by_type[message_type] = handler
                self.payload_types[message_type] = parameter
                self.reply_types[message_type] = reply_types
                if rate is not None:
                    self.rates[message_type] = rate
                if action is not None:
                    actions[message_type] = action
                if once is not None:
                    self.once[message_type] = once
        if refreshes:
            self.by_type[CLIENT_REFRESH_SESSION] = refresh_session
            self.payload_types[CLIENT_REFRESH_SESSION] = RefreshSession
            self.reply_types[CLIENT_REFRESH_SESSION] = reply_types_of(refresh_session)
        self.entries: dict[type[msgspec.Struct], Entry] = {
            ClientPing: Entry(answer_ping, reply_types_of(answer_ping)),
            ClientReply: Entry(ignore_reply, reply_types_of(ignore_reply)),
        }
        for message_type in self.by_type:
            self._add_envelope(message_type, actions.get(message_type), hooks)
        try:
            self.decoder = msgspec.json.Decoder(union_of(self.entries))
        except TypeError as error:
            raise RegistrationError(
                f"{owner.__qualname__}: a payload annotation cannot be decoded: {error}"
            ) from error

    def _add_envelope(self, message_type: str, action: str | None, hooks: Sequence[Around]) -> None:
        """Add the envelope of a message type, with its handler and what encloses it."""
        handler, once = self.by_type[message_type], self.once.get(message_type)
        payload_type, reply_types = self.payload_types[message_type], self.reply_types[message_type]
        if message_type == CLIENT_REFRESH_SESSION:
            hooks = ()
        with_ref = once is not None or bool(hooks)
        envelope = envelope_struct(message_type, payload_type, with_ref=with_ref)
        if action is not None:
            handler = authorized(handler, action)
        if (rate := self.rates.get(message_type)) is not None:
            handler = limited(handler, self.by_type[message_type], message_type, rate)
        if hooks:
            handler = hooked(handler, hooks, message_type)
        if once is not None:
            handler = run_once(handler, once, reply_types, with_ref=bool(hooks))
        self.entries[envelope] = Entry(handler, reply_types)

    @classmethod
    def of(cls, owner: type, config: RouteConfig = DEFAULT_ROUTE_CONFIG) -> HandlerTable:
        """Return the table of a resource class on a route, compiled at the first call.

        Raises:
            RegistrationError: As for the constructor.
        """
        tables: dict[Any, HandlerTable] | None = vars(owner).get("_handler_tables")
        if tables is None:
            tables = owner._handler_tables = {}  # type: ignore[attr-defined]
        refreshes = config.authenticate is not None
        # NOTE: a table with handlers keeps its hooks, so no other hook gets their ids.
        key = (refreshes, *map(id, config.around))
        if key not in tables:
            tables[key] = cls(owner, refreshes=refreshes, around=config.around)
        return tables[key]

    def check_payload(self, text: str, error: Exception) -> None:
        """Raise InvalidPayload for a text that :attr:`decoder` has refused, if its type has a handler.

        Raises:
            InvalidPayload: The type is known and the payload does not match.
        """
        message_type = request_of(text).type
        if message_type in self.by_type or message_type in (CLIENT_PING, CLIENT_REPLY):
            reason, field = explain(error)
            raise InvalidPayload(message_type, field, reason) from None


def marked_methods(owner: type) -> Iterator[tuple[Handler, tuple[Mark, ...], bool]]:
    """Yield the handlers of a class in the order of definition, with their types and the binary mark."""
    marks: dict[str, tuple[tuple[Mark, ...], bool]] = {}
    for base in reversed(owner.__mro__):
        for name, value in vars(base).items():
            found = (
                getattr(value, "__message_types__", ()),
                getattr(value, "__handles_binary__", False),
            )
            if any(found):
                marks[name] = found
    for name, (message_types, binary) in marks.items():
        if (handler := getattr(owner, name)) is not None:  # None in a subclass removes the handler
            yield handler, message_types, binary


def payload_parameter(handler: Handler) -> Any:
    """Check the signature ``(self, ws, payload)`` and return the annotation of the payload."""
    if not inspect.iscoroutinefunction(handler):
        raise RegistrationError(
            f"{handler.__qualname__} must be a coroutine function: write 'async def'"
        )
    signature = inspect.signature(handler)
    try:
        bound = signature.bind(None, None, None)
    except TypeError as error:
        raise RegistrationError(
            f"{handler.__qualname__}{signature} cannot be called as a handler: it takes (self, ws, payload)"
        ) from error
    try:
        hints = get_type_hints(handler, include_extras=True)
    except NameError as error:
        raise RegistrationError(
            f"{handler.__qualname__}: an annotation cannot be resolved ({error}): import the name at module level"
        ) from error
    annotation = hints.get(list(bound.arguments)[-1], dict)
    return dict[str, Any] if annotation in (dict, Any, object) else annotation


async def answer_ping(resource: object, ws: WebSocketLike, payload: object) -> ServerPong:
    """Reply to ``clientPing``."""
    return ServerPong()


async def ignore_reply(resource: object, ws: WebSocketLike, payload: object) -> None:
    """Ignore a ``clientReply`` that has come too late; others are taken before the inbox."""

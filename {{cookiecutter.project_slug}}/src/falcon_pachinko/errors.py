"""All exceptions of the framework.

PachinkoError
├── ConfigurationError      (ValueError)  a URL, a missing extra or a timing that cannot work
├── RegistrationError       (TypeError)   a route or a handler that cannot work, found at start-up
├── InvalidPayload          (ValueError)  a payload that does not match the handler's type
├── OutboxFull                            on_connect has sent more than the outbox holds
├── ScaffoldError                         a new resource that cannot be written
├── MessageError                          a handler's error reply; the connection stays open
│   ├── Forbidden                         the user may not do this; closes with 4403 in on_connect
│   ├── RequestError                      a client has not answered a request of its handler
│   ├── ProviderUnavailable               an identity provider does not respond; try again later
│   └── BackendUnavailable                Redis does not respond, or refuses; the message may be lost
│       └── OperationRefused              Redis refuses one operation; within the framework only
├── TooManyRestrictions                   no place for another ban, mute or revoked session
├── ClientError                           the client of a service cannot do this
│   ├── ClientClosed                      it is closed for good, by the server or by close()
│   └── RequestFailed                     a request has no reply, or the reply is an error
├── LeaseLost                             another worker has taken over this worker's lease
└── Reject                                a refusal with a close code that the client can see
    └── InvalidRoomName     (ValueError)  not a valid room name; closes with 4400
"""

from __future__ import annotations

from .close_codes import BAD_ROOM_NAME, check_close_code


class PachinkoError(Exception):
    """The base class of all exceptions of this package."""


class ConfigurationError(PachinkoError, ValueError):
    """A setting cannot work: a URL, a missing optional dependency, or a timing."""


class RegistrationError(PachinkoError, TypeError):
    """A resource, a handler or a route cannot work as it is written."""


class InvalidPayload(PachinkoError, ValueError):
    """The payload of a known message type does not match its handler's annotation.

    Attributes:
        message_type: The type of the message.
        field: The path of the invalid value, such as ``text`` or ``items[0].name``; empty for the payload itself.
        reason: The expected value.
    """

    def __init__(self, message_type: str, field: str, reason: str) -> None:
        super().__init__(f"{message_type}: {field or 'payload'}: {reason}")
        self.message_type = message_type
        self.field = field
        self.reason = reason


class OutboxFull(PachinkoError):
    """``on_connect`` has sent more messages than the limits allow to be pending."""


class ScaffoldError(PachinkoError):
    """A new resource cannot be written; the project is unchanged."""


class MessageError(PachinkoError):
    """An error reply: raised by a handler, it is sent as ``serverError``; the connection stays open.

    Args:
        text: A sentence for the user, sent unchanged.
        code: An identifier for programs.
    """

    def __init__(self, text: str, *, code: str = "messageError") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Forbidden(MessageError):
    """The user may not do this.

    Raised out of a handler, it is sent as ``serverError`` with the code ``forbidden``; out of ``on_connect`` it
    closes the connection with 4403 and the text as reason.

    Args:
        text: A sentence for the user, sent unchanged.
        code: An identifier for programs.
    """

    def __init__(self, text: str = "You may not do this.", *, code: str = "forbidden") -> None:
        super().__init__(text, code=code)


class RequestError(MessageError):
    """A request of a handler to its client has no result.

    Attributes:
        code: ``timeout``; ``invalidReply`` for a result of another type; otherwise the client's own, such as
            ``unsupported`` from one that does not know the request.
    """


class ProviderUnavailable(MessageError):
    """An identity provider does not respond: whether a user is signed in is unknown for now.

    Raised by a middleware, it answers a request with HTTP 503, and a WebSocket with close code 1013, after
    which clients try again. Raised by ``authenticate``, it is sent as ``serverError`` with the code
    ``unavailable``; the connection goes on until its session ends.

    Args:
        reason: The cause, for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("You cannot be signed in right now: try again.", code="unavailable")
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class BackendUnavailable(MessageError):
    """Redis does not respond, or refuses an operation: the message may not have arrived.

    Raised out of a handler, it is sent as ``serverError`` with the code ``unavailable``; the connection
    stays open.

    Args:
        reason: The cause, for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("This cannot be done right now: try again.", code="unavailable")
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class OperationRefused(BackendUnavailable):
    """Redis has refused one operation, on a key of a wrong type for example; it executes others.

    The framework distinguishes it; applications catch :class:`BackendUnavailable`.
    """


class TooManyRestrictions(PachinkoError):
    """There is no place for another ban, mute or revoked session; nothing has changed.

    Attributes:
        count: The number of those that exist, removed ones included, which are kept until their former end.
    """

    def __init__(self, count: int) -> None:
        super().__init__(
            f"there are {count} bans, mutes and revoked sessions, and there is no place for another: they go when"
            " their time is over, so give shorter times, or disable accounts where users sign in"
        )
        self.count = count


class LeaseLost(PachinkoError):
    """The lease of a worker that runs once per cluster has expired; another node may run it."""


class ClientError(PachinkoError):
    """A client of a service, as in :mod:`falcon_pachinko.client`, cannot do what it was asked for."""


class ClientClosed(ClientError):
    """A client is closed for good.

    Attributes:
        code: The close code; 3000 + the HTTP status of a refused handshake.
        reason: The close reason, often empty.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        refused = (
            f"the handshake was refused with HTTP {code - 3000}" if 3400 <= code < 3600 else ""
        )
        detail = refused or f"close code {code}"
        super().__init__(f"the client is closed: {detail}{', ' if reason else ''}{reason}")
        self.code = code
        self.reason = reason


class RequestFailed(ClientError):
    """A request of a client has no reply, or the reply is an error.

    Attributes:
        code: The server's, such as ``invalidPayload``; or ``timeout`` or ``disconnected``, after which the request may
            have taken effect; or ``notSent``, after which it has not; or ``receiveQueueFull`` where the program does not take the
            received messages, so that no reply can be read.
        field: The path of the invalid value in the payload; ``None`` without one.
    """

    def __init__(self, text: str, *, code: str, field: str | None = None) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.field = field


class Reject(PachinkoError):
    """A refusal that the client can see: raise it to close the connection with a code and a reason.

    In ``on_connect`` the handshake is accepted first, because browsers report every refused handshake
    as close code 1006, like a network failure.

    Args:
        code: A close code; 4000 to 4999 are free for applications (RFC 6455 section 7.4.2).
        reason: A sentence for the user, truncated to 123 bytes of UTF-8.

    Raises:
        ValueError: An endpoint may not send the code.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = check_close_code(code)
        self.reason = reason


class InvalidRoomName(Reject, ValueError):
    """A room name is not valid: see :func:`~falcon_pachinko.names.check_room_name`.

    Raised out of ``on_connect`` or a handler, it closes the connection with 4400 and the reason.

    Args:
        reason: The fault, without the name.
        name: The name, for the log.
    """

    def __init__(self, reason: str, name: object = "") -> None:
        super().__init__(BAD_ROOM_NAME, reason)
        self.name = name

    def __str__(self) -> str:
        return f"{self.reason}: {self.name!r:.60}" if self.name else self.reason


def failure_reason(failure: BaseException) -> str:
    """Return the reason of a failed call to Redis; a TimeoutError has no text of its own."""
    if isinstance(failure, TimeoutError) and not str(failure):
        return "no response in time"
    return str(failure) or type(failure).__name__

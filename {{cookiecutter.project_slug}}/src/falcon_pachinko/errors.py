"""Every error that the framework raises.

PachinkoError
├── RegistrationError       (TypeError)   the program is wrong: found when it is built
├── InvalidRoomName         (ValueError)  a name that no room can have
├── InvalidPayload          (ValueError)  a known message type with a payload that does not fit
├── OutboxFull                            on_connect has sent more than may wait
├── CannotScaffold                        a new resource that cannot be written as it was asked for
├── MessageError                          a handler's answer to one message: the connection lives
│   └── BackendUnavailable                the engine behind the rooms is away: what was said may be lost
├── LeaseLost                             a worker goes on though another one has taken its place
└── Reject                                a refusal that the client can see: a close code and a reason
"""

from __future__ import annotations

from .close_codes import check_close_code


class PachinkoError(Exception):
    """The root of all errors of this package."""


class RegistrationError(PachinkoError, TypeError):
    """A resource, a handler or a route cannot work as it is written."""


class InvalidRoomName(PachinkoError, ValueError):
    """A room name that breaks the rule: 1 to 200 bytes of UTF-8 without control characters."""


class InvalidPayload(PachinkoError, ValueError):
    """The payload of a known message type does not fit what its handler declares.

    Attributes:
        message_type: The type of the message.
        field: Where in the payload, as a path like ``text`` or ``items[0].name``; empty for the payload itself.
        reason: What was expected.
    """

    def __init__(self, message_type: str, field: str, reason: str) -> None:
        super().__init__(f"{message_type}: {field or 'payload'}: {reason}")
        self.message_type = message_type
        self.field = field
        self.reason = reason


class OutboxFull(PachinkoError):
    """``on_connect`` has sent more than the limits let wait for one client."""


class CannotScaffold(PachinkoError):
    """A new resource cannot be written as it was asked for; the project is as it was."""


class MessageError(PachinkoError):
    """Raise it in a handler to answer one message with ``serverError``; the connection lives on.

    Args:
        text: A sentence for people. It goes over the wire as it is.
        code: A word for programs.
    """

    def __init__(self, text: str, *, code: str = "messageError") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class BackendUnavailable(MessageError):
    """The engine behind the rooms does not answer: what was said may not have arrived.

    A handler that lets it out has its client told so, with the code ``unavailable``; the connection lives on.

    Args:
        reason: Why, for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("This cannot be done right now: try again.", code="unavailable")
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class LeaseLost(PachinkoError):
    """A worker that runs once per cluster has lost its lease, and another one may run in its place."""


class Reject(PachinkoError):
    """Raise it to close the connection so that the client sees why.

    In ``on_connect`` the handshake is accepted first, because a browser is not told why a handshake
    failed: to it a plain refusal looks like a broken network (close code 1006).

    Args:
        code: A close code; 4000 to 4999 are free for applications (RFC 6455 section 7.4.2).
        reason: A sentence for people; what goes beyond 123 bytes of UTF-8 is cut off.

    Raises:
        ValueError: The code is not one that an endpoint may send.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = check_close_code(code)
        self.reason = reason


def reason_of(failure: BaseException) -> str:
    """Why the engine does not answer, for people; a timeout says nothing itself."""
    if isinstance(failure, TimeoutError) and not str(failure):
        return "it does not answer"
    return str(failure) or type(failure).__name__

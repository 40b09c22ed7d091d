"""Errors of refused and closed connections."""

from __future__ import annotations

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from ..close_codes import ABNORMAL_CLOSURE


class Refused(InvalidStatus):
    """The server rejected the handshake with an HTTP status.

    A subclass of the error of the library ``websockets``.

    Attributes:
        status_code: The HTTP status; 403 by default.
        headers: The response headers, case-insensitive.
        body: The response body.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.status_code = response.status_code
        self.headers = response.headers
        self.body = bytes(response.body or b"")

    def __str__(self) -> str:
        status = f"{self.status_code} {self.response.reason_phrase}".strip()
        body = f": {self.body.decode(errors='replace')}" if self.body else ""
        return f"the handshake was refused with HTTP {status}{body}"


class Closed(ConnectionClosed):
    """The connection is closed, and all messages sent before the close have been read.

    A subclass of the error of the library ``websockets``.

    Args:
        closed: The error of the library.
        context: The operation that failed, for the error text.
    """

    def __init__(self, closed: ConnectionClosed, context: str) -> None:
        super().__init__(closed.rcvd, closed.sent, closed.rcvd_then_sent)
        self.context = context

    @property
    def code(self) -> int:
        """The server's close code; 1005 if its close frame has none, 1006 without a close frame."""
        return code_and_reason(self.rcvd)[0]

    @property
    def reason(self) -> str:
        """The server's close reason; may be empty."""
        return code_and_reason(self.rcvd)[1]

    def __str__(self) -> str:
        if self.rcvd is None:
            close = f"the connection was lost without a close frame ({ABNORMAL_CLOSURE})"
        else:
            side = "the server" if self.rcvd_then_sent is not False else "this client"
            reason = f" ({self.reason})" if self.reason else ""
            close = f"{side} closed the connection with {self.code}{reason}"
        return f"{close} {self.context}"


def code_and_reason(rcvd: Close | None) -> tuple[int, str]:
    """Return the code and the reason of a received close frame."""
    return (ABNORMAL_CLOSURE, "") if rcvd is None else (rcvd.code, rcvd.reason)


def raise_or_note(error: BaseException, earlier: BaseException | None) -> None:
    """Raise an error of the clean-up, or add it as a note to an earlier error."""
    if earlier is None:
        raise error
    earlier.add_note(f"Then, during clean-up: {type(error).__name__}: {error}")

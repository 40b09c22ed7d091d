"""How a connection ends other than one may have hoped."""

from __future__ import annotations

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from ..close_codes import ABNORMAL_CLOSURE


class Refused(InvalidStatus):
    """The handshake was answered with an HTTP status instead of being accepted.

    It is also what the library ``websockets`` raises.

    Attributes:
        status_code: 403, unless the application chose another.
        headers: The headers of the answer; names in any case.
        body: The body of the answer.
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
    """The connection is closed; what was sent before has been read.

    It is also what the library ``websockets`` raises.

    Args:
        closed: What the library has raised.
        story: What was awaited and what had come, for people.
    """

    def __init__(self, closed: ConnectionClosed, story: str) -> None:
        super().__init__(closed.rcvd, closed.sent, closed.rcvd_then_sent)
        self.story = story

    @property
    def code(self) -> int:
        """The code of the server's close; 1006 where it went without a word, 1005 where it gave none."""
        return code_and_reason(self.rcvd)[0]

    @property
    def reason(self) -> str:
        """The reason of the server's close; empty where it gave none."""
        return code_and_reason(self.rcvd)[1]

    def __str__(self) -> str:
        if self.rcvd is None:
            how = f"the connection was lost without a close ({ABNORMAL_CLOSURE})"
        else:
            who = "the server" if self.rcvd_then_sent is not False else "this client"
            reason = f" ({self.reason})" if self.reason else ""
            how = f"{who} closed the connection with {self.code}{reason}"
        return f"{how} {self.story}"


def code_and_reason(rcvd: Close | None) -> tuple[int, str]:
    """What the server's close says."""
    return (ABNORMAL_CLOSURE, "") if rcvd is None else (rcvd.code, rcvd.reason)


def fail(problem: BaseException, failure: BaseException | None) -> None:
    """Raise what went wrong at the end; where something has failed before, that gets a note of it instead."""
    if failure is None:
        raise problem
    failure.add_note(f"And then: {type(problem).__name__}: {problem}")

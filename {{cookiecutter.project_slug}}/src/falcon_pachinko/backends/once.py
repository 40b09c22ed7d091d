"""The contract of requests that are handled once: their claims, and the replies of those that were handled."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from typing import NamedTuple

# The bounds of what is kept: the replies of a client, and the clients of a user. Above them the oldest replies are
# dropped, and the clients whose last new request is the oldest.
MAX_REPLIES = 100
MAX_REPLY_BYTES = 64 * 1024
MAX_CLIENTS = 20
# What the reference, the token and the time of a request take at most.
HEAD_BYTES = 1024


class RequestKey(NamedTuple):
    """What identifies a request, also when it is sent again over another connection.

    Attributes:
        user: The key of the user; ``None`` for a connection without a user.
        client: The id that the client has made: 32 hexadecimal digits.
        ref: The client's reference of the request.
    """

    user: str | None
    client: str
    ref: str


class OnceRun:
    """One execution of the handler of a request.

    Attributes:
        key: The request.
        seconds: The time for which its reply is kept.
        token: Distinguishes it from other executions; set by the claim.
        published: Whether it has published a message, which is its effect.
    """

    __slots__ = ("key", "published", "seconds", "token")

    def __init__(self, key: RequestKey, seconds: float) -> None:
        self.key = key
        self.seconds = seconds
        self.token = ""
        self.published = False


class ClaimState(enum.Enum):
    """The state of a request.

    Attributes:
        NEW: It is claimed for the caller, which handles it.
        RUNNING: Another execution handles it.
        DONE: It was handled.
        INTERRUPTED: Its execution has ended before its outcome was known.
    """

    NEW = "new"
    RUNNING = "running"
    DONE = "done"
    INTERRUPTED = "interrupted"


class Claim(NamedTuple):
    """The outcome of a claim.

    Attributes:
        state: The state of the request.
        reply: The encoded reply of one that was handled; empty for ``serverAck``.
    """

    state: ClaimState
    reply: bytes = b""


class OnceRequests(ABC):
    """The contract of requests that are handled once, in all processes.

    A request is handled by one execution at a time, and not again after one that has published or finished, as long
    as its reply is kept: ``seconds`` from its last change, and within the bounds of this module.
    """

    @abstractmethod
    async def claim_request(self, run: OnceRun, *, repeatable: bool) -> Claim:
        """Claim a request for an execution, which ends it with one of the other two methods.

        Args:
            run: The execution.
            repeatable: Whether a request whose execution was interrupted is claimed again; otherwise it stays
                interrupted. One that has published is done.

        Raises:
            BackendUnavailable: Redis is unavailable: the request is not claimed.
        """

    @abstractmethod
    def finish_request(self, run: OnceRun, reply: bytes) -> None:
        """Store the encoded reply, empty for ``serverAck``; never waits. One that is too large counts as empty.

        During an outage of Redis it is stored afterwards.
        """

    @abstractmethod
    def release_request(self, run: OnceRun, *, repeatable: bool) -> None:
        """Release a claim whose execution has no reply, so that the request may be handled again; never waits.

        Args:
            run: The execution. One that has published counts as finished.
            repeatable: Whether it may be handled again; otherwise it is interrupted.
        """


def stored_reply(reply: bytes) -> bytes:
    """Return the reply, or an empty one for a reply that is too large to be kept."""
    return reply if len(reply) <= MAX_REPLY_BYTES - HEAD_BYTES else b""

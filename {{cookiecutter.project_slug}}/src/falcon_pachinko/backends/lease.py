"""The lease of a worker, and the one that is held in the present context."""

from __future__ import annotations

import asyncio
import contextvars
import math

from ..errors import LeaseLost


class Lease:
    """The exclusive right to run a named task for a limited time.

    Attributes:
        name: The name of the task.
        token: Higher than any earlier token of this name (a fencing token: Kleppmann, "How to do
            distributed locking").
        expires: The time of expiry on the event loop's clock.
    """

    __slots__ = ("expires", "name", "token")

    def __init__(self, name: str, token: int, expires: float) -> None:
        self.name = name
        self.token = token
        self.expires = expires

    def revoke(self) -> None:
        """Let the lease expire now: it is lost or released."""
        self.expires = -math.inf


# The lease of the worker that is running in this context: its publications carry the fencing token.
CURRENT_LEASE: contextvars.ContextVar[Lease | None] = contextvars.ContextVar("lease", default=None)


def check_lease(lease: Lease | None) -> None:
    """Raise LeaseLost if there is a lease and it has expired."""
    if lease is not None and lease.expires <= asyncio.get_running_loop().time():
        raise LeaseLost(f"the lease of {lease.name!r} has expired or has been lost")

"""The contract of tickets: short-lived secrets that each stand for a value, and work once."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
from abc import ABC, abstractmethod

MAX_TICKET_VALUE_BYTES = 4096
MAX_TICKET_SECONDS = 86_400.0
TICKET_BYTES = 24

# Above this number of unused tickets in memory the oldest ones are dropped.
MAX_MEMORY_TICKETS = 100_000


TICKET = re.compile(r"[A-Za-z0-9_-]{32}")


class Tickets(ABC):
    """The contract of tickets of all processes."""

    @abstractmethod
    async def issue_ticket(self, value: str, seconds: float) -> str:
        """Return a new ticket for a value: 192 random bits, as 32 characters that a URL may contain.

        An unused ticket may be lost with the data of Redis.

        Args:
            value: At most 4 KiB of UTF-8.
            seconds: The time in which it can be redeemed, at most a day.

        Raises:
            BackendUnavailable: Redis is unavailable.
            ValueError: The value is too large, or the time is not valid.
        """

    @abstractmethod
    async def redeem_ticket(self, ticket: str) -> str | None:
        """Return the value of a ticket, exactly once among all processes; ``None`` for any other text.

        A text without the shape of a ticket costs no call to Redis, and is none during an outage either.

        Raises:
            BackendUnavailable: Redis is unavailable; the ticket may have been used up.
        """


def new_ticket(value: str, seconds: float) -> str:
    """Check the arguments of :meth:`Tickets.issue_ticket`, and return a ticket.

    Raises:
        ValueError: See there.
    """
    size_bytes = len(value.encode())
    if size_bytes > MAX_TICKET_VALUE_BYTES:
        raise ValueError(
            f"the value of a ticket has {size_bytes} bytes, and at most {MAX_TICKET_VALUE_BYTES} are allowed:"
            " store it elsewhere, and give its key"
        )
    is_number = isinstance(seconds, (int, float)) and math.isfinite(seconds)
    if not is_number or not 0 < seconds <= MAX_TICKET_SECONDS:
        raise ValueError(
            f"seconds is {seconds!r}: it must be above zero, and at most {MAX_TICKET_SECONDS:.0f}"
        )
    return secrets.token_urlsafe(TICKET_BYTES)


def is_ticket(text: str) -> bool:
    """Return whether a text has the shape of a ticket."""
    return TICKET.fullmatch(text) is not None


class MemoryTickets(Tickets):
    """The tickets of a single process.

    Args:
        max_tickets: The maximum number of unused tickets; above it the oldest ones are dropped.
    """

    def __init__(self, max_tickets: int = MAX_MEMORY_TICKETS) -> None:
        self.max_tickets = max_tickets
        # In the order of issue, each with its end on the event loop's clock.
        self.unused: dict[str, tuple[str, float]] = {}

    async def issue_ticket(self, value: str, seconds: float) -> str:
        """Return a new ticket, and drop the oldest ones that have ended."""
        ticket, now = new_ticket(value, seconds), asyncio.get_running_loop().time()
        while self.unused:
            oldest = next(iter(self.unused))
            if self.unused[oldest][1] > now and len(self.unused) < self.max_tickets:
                break
            del self.unused[oldest]
        self.unused[ticket] = (value, now + seconds)
        return ticket

    async def redeem_ticket(self, ticket: str) -> str | None:
        """Return the value of a ticket, once."""
        value, until = self.unused.pop(ticket, ("", -math.inf))
        return value if until > asyncio.get_running_loop().time() else None

"""When a client connects again: which close codes rule it out, and after which delay."""

from __future__ import annotations

import re

from ..close_codes import SERVICE_RESTART, TOO_MANY_CONNECTIONS

# RFC 6455 section 7.4.1: a retry would fail in the same way.
TERMINAL_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
# 3000 + the HTTP status, as Falcon maps it: timeout, too early and too many requests are temporary. So are too many
# connections of one user.
RETRYABLE_CODES = frozenset({3408, 3425, 3429, TOO_MANY_CONNECTIONS})
# The close reason of a server that stops: the seconds until the next attempt, at most 9,999.
RETRY = re.compile(r"retry=([0-9]{1,4}(?:\.[0-9]{1,3})?)")
# 0.5 * 2 ** 1000 is still a float.
MAX_EXPONENT = 1_000


def is_terminal_code(code: int) -> bool:
    """Return whether a close code rules out a retry."""
    if code in RETRYABLE_CODES:
        return False
    return code in TERMINAL_CODES or 3400 <= code <= 3499 or 4400 <= code <= 4499


def retry_delay(failures: int, base_seconds: float, max_seconds: float, random: float) -> float:
    """Return the delay in seconds before a retry: exponential back-off with full jitter.

    Full jitter spreads the clients of a restarted server
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Args:
        failures: The number of failed attempts since the last stable connection.
        base_seconds: The bound of the first delay.
        max_seconds: The bound of all delays.
        random: A random number from 0 to below 1.
    """
    return random * min(max_seconds, base_seconds * 2.0 ** min(failures, MAX_EXPONENT))


def announced_delay(code: int, reason: str) -> float | None:
    """Return the delay in seconds that a server that stops asks for; ``None`` for another end."""
    found = RETRY.fullmatch(reason) if code == SERVICE_RESTART else None
    return float(found[1]) if found else None

"""The rate of one message type: its declaration, and the handler that enforces it."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..errors import MessageError, RegistrationError
from ..messages import Message
from .connection import Connection

Handler = Callable[..., Awaitable[Message | None]]


@dataclass(frozen=True, slots=True)
class TypeRate:
    """The rate of one message type, for each user, or for each connection without a user.

    Attributes:
        per_second: The number of messages in the long run.
        burst: The number of messages at once.

    Raises:
        RegistrationError: A value is not a number above zero, or ``burst`` is below 1.
    """

    per_second: float
    burst: float

    def __post_init__(self) -> None:
        for name, value, least in (("per_second", self.per_second, 0), ("burst", self.burst, 1)):
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not 0 < value < math.inf or value < least:
                raise RegistrationError(
                    f"handles_message({name}={value!r}): give a number above zero; burst is at least 1"
                )

    def __str__(self) -> str:
        return f"At most {self.per_second:g} per second and {self.burst:g} at once."

    @classmethod
    def of(cls, per_second: float | None, burst: int | None) -> TypeRate | None:
        """Return the rate of the arguments of ``handles_message``.

        Raises:
            RegistrationError: As for the constructor, or ``burst`` is given alone.
        """
        if per_second is None:
            if burst is None:
                return None
            raise RegistrationError(
                f"handles_message(burst={burst!r}) bounds nothing: add per_second, the long-run rate"
            )
        cls(per_second, 1)  # or a rate that is not a number cannot be rounded
        return cls(per_second, max(1, math.ceil(per_second)) if burst is None else burst)


def limited(handler: Handler, method: Handler, message_type: str, rate: TypeRate) -> Handler:
    """Return a handler that raises MessageError for a message above a rate.

    Args:
        handler: The other one.
        method: The method of the resource class, whose messages count together on all routes.
        message_type: Their type.
        rate: The rate.
    """
    key = (method, message_type)

    @functools.wraps(handler)
    def call(resource: Any, ws: Connection, payload: Any) -> Awaitable[Message | None]:
        now = asyncio.get_running_loop().time()
        buckets = resource.manager._registry.rates.of_type(key, rate.per_second, rate.burst)
        # NOTE: a tuple is not the name of a user.
        bucket = buckets.of(ws._rate_key or (ws.id,), now)
        if bucket.take_available(now):
            return handler(resource, ws, payload)
        resource.manager._registry.counters.rate_refusals += 1
        raise MessageError(
            f"Too many {message_type} messages: wait {bucket.empty_seconds:.1f} s.",
            code="tooManyMessages",
        )

    return call

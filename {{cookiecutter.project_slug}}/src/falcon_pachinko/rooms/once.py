"""Handlers that run once for a request, also when its client sends it again over another connection."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ..backends.once import Claim, ClaimState, OnceRequests, OnceRun, RequestKey
from ..connection.connection import Connection
from ..connection.envelope import RequestPayload
from ..connection.replies import EncodedReply, checked
from ..errors import InvalidPayload, MessageError, RegistrationError
from ..limits import Limits
from ..messages import Message, ServerAck, ServerError
from ..publication import Publication

Handler = Callable[..., Awaitable[Message | None]]

# Errors that tell the client to send the message again: nothing has taken effect, so they are not kept as the reply.
RELEASING_CODES = frozenset({"unavailable", "tooManyMessages"})
INTERRUPTED = "This was interrupted, and it is not known whether it has been done."
STILL_RUNNING = "This is still being done: try again."

# How long a request that is sent again waits for the execution in progress: as long as a handler may take, less the time
# to handle it if that one was interrupted.
WAIT_SHARE = 0.5
MAX_WAIT_SECONDS = 30.0
# The interval of the checks doubles up to this.
FIRST_CHECK_SECONDS = 0.02
MAX_CHECK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Once:
    """That a handler runs once for a request.

    Attributes:
        repeatable: Whether it runs again for a request whose first execution was interrupted.
    """

    repeatable: bool

    def __str__(self) -> str:
        return "Handled once for each `ref` of a client, whose URL has its id as `client`."

    @classmethod
    def of(cls, once: object, repeatable: object) -> Once | None:
        """Return the declaration of the arguments of ``handles_message``.

        Raises:
            RegistrationError: An argument is not a truth value, or ``repeatable`` is given alone.
        """
        for name, value in (("once", once), ("repeatable", repeatable)):
            if not isinstance(value, bool):
                raise RegistrationError(f"handles_message({name}={value!r}): give True or False")
        if not once:
            if repeatable:
                raise RegistrationError("handles_message(repeatable=True) needs once=True")
            return None
        return cls(bool(repeatable))


def run_once(
    handler: Handler,
    declared: Once,
    reply_types: tuple[type[Message], ...],
    *,
    with_ref: bool = False,
) -> Handler:
    """Return a handler that answers a request that was handled from the reply that is kept.

    It is the outermost one: such an answer counts towards no rate, and needs no permission. A message without a ``ref``,
    or of a client without an id, is handled as by the handler itself.

    Args:
        handler: The other one.
        declared: Its declaration.
        reply_types: The classes that it may return.
        with_ref: Whether its payload is a RequestPayload.
    """

    @functools.wraps(handler)
    async def call(resource: Any, ws: Connection, request: RequestPayload) -> Any:
        payload = request if with_ref else request.payload
        if request.ref is msgspec.UNSET or ws.client_id is None:
            return await handler(resource, ws, payload)
        run = OnceRun(RequestKey(ws.user, ws.client_id, request.ref), ws.limits.once_seconds)
        requests: OnceRequests = resource.manager.backend
        claim = await claimed(requests, run, ws.limits, repeatable=declared.repeatable)
        if claim.state is ClaimState.DONE:
            return EncodedReply(claim.reply)
        if claim.state is ClaimState.INTERRUPTED:
            raise MessageError(INTERRUPTED, code="interrupted")
        if claim.state is ClaimState.RUNNING:
            raise MessageError(STILL_RUNNING, code="unavailable")
        resource.request_key, resource._run = run.key, run
        try:
            reply = checked(
                type(resource).__name__, await handler(resource, ws, payload), reply_types
            )
            data = b"" if type(reply) is ServerAck else Publication(reply).data
        except MessageError as error:
            if error.code in RELEASING_CODES:
                requests.release_request(run, repeatable=True)
            else:
                refusal = ServerError(code=error.code, error=error.text)
                requests.finish_request(run, Publication(refusal).data)
            raise
        except InvalidPayload:
            requests.release_request(run, repeatable=True)
            raise
        except (Exception, asyncio.CancelledError):
            requests.release_request(run, repeatable=declared.repeatable)
            raise
        finally:
            resource.request_key = resource._run = None
        requests.finish_request(run, data)
        return EncodedReply(data)

    return call


async def claimed(
    requests: OnceRequests, run: OnceRun, limits: Limits, *, repeatable: bool
) -> Claim:
    """Claim a request, after waiting for an execution in progress.

    Raises:
        BackendUnavailable: Redis is unavailable; the handler has not run for this message.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + min(MAX_WAIT_SECONDS, WAIT_SHARE * (limits.handler_seconds or 60.0))
    interval = FIRST_CHECK_SECONDS
    while True:
        claim = await requests.claim_request(run, repeatable=repeatable)
        if claim.state is not ClaimState.RUNNING or loop.time() >= until:
            return claim
        await asyncio.sleep(interval)
        interval = min(2 * interval, MAX_CHECK_SECONDS)

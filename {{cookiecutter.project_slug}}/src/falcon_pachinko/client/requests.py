"""Requests of a client: their replies, and those that survive lost connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import RequestFailed
from .core import Core
from .envelope import decode
from .platform import Timer
from .status import State

# Errors after which a request with once is sent again: it has not taken effect, or the server knows whether it has.
RETRIED_ERRORS = frozenset({"unavailable", "tooManyMessages", "timeout"})

# Called with the error, or with the type and the payload of the reply.
Settle = Callable[[RequestFailed | None, str, dict[str, Any]], object]


@dataclass(eq=False)
class Request:
    """A request without a reply.

    Attributes:
        reference: Its ``ref``.
        text: The message.
        is_once: Whether it is sent again after a loss.
        settle: Called once, with its result.
        timeout: The end of the wait.
        is_written: With ``once``: it is on the connection, or in the queue.
        was_sent: With ``once``: it was on a connection, so that it may have arrived.
        failures: With ``once``: the number of errors after which it was sent again.
        repetition: With ``once``: it is sent again at its end.
    """

    reference: str
    text: str
    is_once: bool
    settle: Settle
    timeout: Timer | None = None
    is_written: bool = False
    was_sent: bool = False
    failures: int = 0
    repetition: Timer | None = None


class Requests:
    """The requests of one client or room.

    Attributes:
        pending: All requests without a reply, by their references.
        once: Those with ``once``, in their order. Only the first one is sent, so that none overtakes it.
    """

    def __init__(self, machine: Core) -> None:
        self.machine = machine
        self.pending: dict[str, Request] = {}
        self.once: list[Request] = []

    @property
    def waiting(self) -> int:
        """The number of requests that wait for the reply to an earlier one."""
        return sum(not request.is_written for request in self.once)

    def is_wanted(self, text: str) -> bool:
        """Return whether a message is still to be sent: it is not a request, or one without a result."""
        message = decode(text)
        reference = None if message is None else message.get("ref")
        return reference is None or reference in self.pending

    def start(
        self, reference: str, text: str, timeout_seconds: float, settle: Settle, *, is_once: bool
    ) -> Request:
        """Send or queue a request; ``settle`` is called once, perhaps before this returns.

        Args:
            reference: Its ``ref``, from :meth:`Core.next_reference`.
            text: The encoded message.
            timeout_seconds: The time until it fails, with the time in the queue.
            settle: Called with its result.
            is_once: Whether it is sent again after a loss.
        """
        request = Request(reference, text, is_once, settle)
        self.pending[reference] = request
        request.timeout = self.machine.platform.call_later(
            timeout_seconds, lambda: self.fail(request, "timeout")
        )
        accepted = self.add_once(request) if is_once else self.machine.write(text)
        if not accepted:
            self.fail(request, "notSent")
        return request

    def settle(self, reference: str, message_type: str, payload: dict[str, Any]) -> None:
        """Settle the request to which a message replies; one that is too late has no effect."""
        request = self.pending.get(reference)
        if request is None:
            return
        if message_type != "serverError":
            self.finish(request, None, message_type, payload)
            return
        code = str(payload.get("code", ""))
        if request.is_once and code in RETRIED_ERRORS:
            self.repeat_later(request)
            return
        field = payload.get("field")
        error = RequestFailed(str(payload.get("error", "")), code=code, field=field)
        self.finish(request, error)

    def fail(self, request: Request, code: str) -> None:
        """Fail a request without a reply; one that is still queued is taken out.

        Args:
            request: The request.
            code: ``timeout``, ``disconnected``, ``notSent`` or ``receiveQueueFull``.
        """
        if self.pending.get(request.reference) is not request:
            return
        queue = self.machine.queue
        is_queued = request.text in queue
        if is_queued:
            queue.remove(request.text)
        never_written = request.is_once and not request.is_written and not request.failures
        if (is_queued or code == "notSent" or never_written) and not request.was_sent:
            error = RequestFailed("The message was not sent.", code="notSent")
        else:
            error = RequestFailed("There was no reply: the message may have arrived.", code=code)
        self.finish(request, error)

    def finish(
        self,
        request: Request,
        error: RequestFailed | None,
        message_type: str = "",
        payload: dict[str, Any] | None = None,
    ) -> None:
        """End a request."""
        if request.timeout is not None:
            request.timeout.cancel()
        del self.pending[request.reference]
        if request in self.once:
            if request.repetition is not None:
                request.repetition.cancel()
            is_first = request is self.once[0]
            self.once.remove(request)
            if is_first:
                # Not at once: the next one may fail together with this one, and is not sent then.
                self.machine.platform.call_soon(self.send_next)
        request.settle(error, message_type, payload or {})

    def add_once(self, request: Request) -> bool:
        """Add a request with ``once``; return whether it was accepted."""
        machine = self.machine
        is_full = machine.queued_messages >= machine.options.max_queued_messages
        if machine.state is State.CLOSED or is_full:
            return False
        self.once.append(request)
        if len(self.once) == 1:
            self.send_once()
        return True

    def send_next(self) -> None:
        """Send the first request with ``once``, unless it waits for its repetition."""
        if self.once and not self.once[0].failures:
            self.send_once()

    def send_once(self) -> None:
        """Send or queue the first request with ``once``, unless that has been done."""
        if self.once and not self.once[0].is_written:
            first = self.once[0]
            # It does not count twice towards the bound of the queue.
            first.is_written = True
            if not self.machine.write(first.text):
                self.repeat_later(first)

    def repeat_later(self, request: Request) -> None:
        """Send the first request with ``once`` again after a delay."""
        machine = self.machine
        delay = machine.options.base_delay_seconds / 2 + machine.retry_delay(request.failures)
        request.is_written = False
        request.failures += 1
        request.repetition = machine.platform.call_later(delay, self.send_once)

    def repeat_once(self) -> None:
        """The connection is lost: the first request with ``once`` is the first message on the next one."""
        first = self.once[0] if self.once else None
        if first is None or first.text in self.machine.queue:
            return
        if not first.is_written and not first.failures:
            return  # Its turn has just come: it is queued by the call that is due.
        if first.repetition is not None:
            first.repetition.cancel()
        first.is_written = first.was_sent = True
        self.machine.queue.insert(0, first.text)

    def reject_sent(self, *, is_final: bool) -> None:
        """Fail the requests of a lost connection; those in the queue, and those with ``once``, will be sent."""
        if is_final:
            self.once = []
        else:
            self.repeat_once()
        for request in list(self.pending.values()):
            if is_final or not (request.is_once or request.text in self.machine.queue):
                self.fail(request, "disconnected")

"""The token of a client: one for each handshake, and a new one before the session of a connection ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..close_codes import ABNORMAL_CLOSURE, SESSION_ENDED, shorten_close_reason
from ..messages import ENCODER
from .core import Core
from .platform import Socket, Timer

# Starts to fetch a token, and calls the function once: with the token, with None where the user is not signed in any
# more, or with an exception.
FetchToken = Callable[[Callable[[str | Exception | None], None]], object]


class SignIn:
    """The token of each handshake, and the refresh of the session over the open connection.

    Args:
        machine: The client.
        fetch_token: Fetches a token; ``None`` for a client without one.
    """

    def __init__(self, machine: Core, fetch_token: FetchToken | None) -> None:
        self.machine = machine
        self.fetch_token = fetch_token
        self.timer: Timer | None = None
        # The number of calls and of their ends: the result of an earlier one is ignored.
        self.call = 0
        self.is_refreshing = False
        self.expires_at = 0.0
        self.failures = 0
        # Whether the new token has been sent and the server has not replied.
        self.is_sent = False

    @property
    def has_token(self) -> bool:
        """Whether handshakes have a token."""
        return self.fetch_token is not None

    def fetch_for_handshake(self) -> None:
        """Fetch a token and open a connection with it; without a session the client closes with 4401."""
        machine, attempt = self.machine, self.machine.attempt

        def done(result: str | Exception | None) -> None:
            if attempt != machine.attempt or machine.socket is not None:
                return
            if isinstance(result, str):
                machine.open_socket(result)
            else:
                code = SESSION_ENDED if result is None else ABNORMAL_CLOSURE
                machine.lose(None, code, reason_of(result))

        if self.fetch_token is not None and attempt == machine.attempt:
            self.fetch_token(done)

    def receive(self, socket: Socket, message_type: str, payload: dict[str, Any]) -> bool:
        """Handle the messages about the end of the session; return whether one is for this client only."""
        if message_type == "serverSessionExpiring" and self.has_token:
            seconds = payload.get("expiresInSeconds")
            if isinstance(seconds, (int, float)):
                self.expires_at = self.machine.platform.monotonic() + seconds
                self.failures = 0
                self.refresh(socket)
                return True
        elif message_type == "serverSessionRefreshed":
            self.stop()
            return self.has_token
        elif (
            message_type == "serverError" and payload.get("code") == "unavailable" and self.is_sent
        ):
            self.retry(socket)
            return True
        return False

    def refresh(self, socket: Socket) -> None:
        """Fetch a new token and send it; repeat it after a failure until the session expires."""
        self.stop()
        self.is_refreshing = True
        call = self.call

        def done(result: str | Exception | None) -> None:
            if call != self.call:
                return
            if isinstance(result, Exception):
                self.retry(socket)
            elif result is None:
                self.stop()
            else:
                self.is_sent = True
                message = {"type": "clientRefreshSession", "payload": {"token": result}}
                if socket.is_open:
                    socket.send(ENCODER.encode(message).decode())

        # Until the server has confirmed it: neither a call nor a reply may take longer.
        self.timer = self.machine.platform.call_later(
            self.machine.options.connect_timeout_seconds, lambda: self.retry(socket)
        )
        if self.fetch_token is not None:
            self.fetch_token(done)

    def retry(self, socket: Socket) -> None:
        """Refresh again after a delay, unless the session expires before."""
        if not self.is_refreshing:
            return
        self.stop()
        delay = self.machine.retry_delay(self.failures)
        self.failures += 1
        if self.machine.platform.monotonic() + delay < self.expires_at:
            self.timer = self.machine.platform.call_later(delay, lambda: self.refresh(socket))

    def stop(self) -> None:
        """End the refresh: it has succeeded, or its connection has ended."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.call += 1
        self.is_refreshing = self.is_sent = False


def reason_of(error: Exception | None) -> str:
    """Return the reason of a loss for want of a token."""
    if error is None:
        return ""
    return shorten_close_reason(f"token: {str(error) or type(error).__name__}")

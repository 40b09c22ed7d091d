"""The user of a connection, and the session with which the user has signed in."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from typing import Any

from ..close_codes import SESSION_ENDED, close_event
from ..messages import ServerSessionExpiring
from ..publication import Publication
from .expiry import WHEELS, Expiry
from .inbox import Event
from .state import OPEN, State

EXPIRED = "your session has expired"


class Identity(ABC):
    """The part of a connection that knows its user.

    Attributes:
        identity: What authentication has found, ``req.context.user``: any object; ``None`` for nobody.
        user: The key of the user, for presence; the ``id`` of :attr:`identity`, if that is a text.
            Otherwise set it in ``on_connect`` before joining rooms.
        session_id: The ``session_id`` of such an identity; ``None`` for none.
        signed_in_at: Its ``signed_in_at``: when the user has signed in, in Unix seconds, which a refresh does not
            change; ``None`` if it is not known.
        client_id: The id that the client has made for all its connections: 32 hexadecimal digits, its parameter
            ``client`` of the handshake; ``None`` without a valid one.
    """

    __slots__ = ("_expiry", "client_id", "identity", "session_id", "signed_in_at", "user")

    state: State

    def __init__(self) -> None:
        self.identity: Any = None
        self.user: str | None = None
        self.client_id: str | None = None
        self.session_id: str | None = None
        self.signed_in_at: float | None = None
        self._expiry: Expiry | None = None

    @property
    def expires_at(self) -> float | None:
        """The end of the session in Unix seconds; ``None`` for a connection without an end.

        The client is sent ``serverSessionExpiring`` a tenth of the remaining lifetime ahead, at least 30 s; at
        the end the connection is closed with 4401, at most a second late. Times follow the wall clock.

        Raises:
            TypeError: The new value is not a number.
            ValueError: The new value is not finite.
        """
        return None if self._expiry is None else self._expiry.at

    @expires_at.setter
    def expires_at(self, at: float | None) -> None:
        self._set_expiry(None if at is None else Expiry(at, self))

    def _identify(self, identity: Any, *, refreshed: bool = False) -> None:
        """Take over an identity: only one whose ``id`` is a text sets the user, and at first the session.

        Raises:
            TypeError: ``expires_at`` is not a number, or ``signed_in_at`` not a finite one.
            ValueError: ``expires_at`` is not finite.
        """
        user = user_id_of(identity)
        if user is not None or refreshed:
            self.signed_in_at = sign_in_time_of(identity)
            at = getattr(identity, "expires_at", None)
            self._set_expiry(None if at is None else Expiry(at, self, refreshed=refreshed))
            self.session_id = session_id_of(identity)
        if user is not None and not refreshed:
            self.user = user
        self.identity = identity

    def _set_expiry(self, expiry: Expiry | None) -> None:
        self._stop_expiry()
        self._expiry = expiry
        if self.state is OPEN:
            self._start_expiry()

    def _start_expiry(self) -> None:
        """End the connection with its session, from now on."""
        if self._expiry is not None:
            WHEELS.of(asyncio.get_running_loop()).add(self._expiry)

    def _stop_expiry(self) -> None:
        if self._expiry is not None and self.state is OPEN:
            WHEELS.of(asyncio.get_running_loop()).discard(self._expiry)

    def _on_expiring(self, seconds: int) -> None:
        self._deliver(Publication(ServerSessionExpiring(expires_in_seconds=seconds)))

    def _on_expired(self) -> None:
        self._start_closing(close_event(SESSION_ENDED, EXPIRED))

    @abstractmethod
    def _deliver(self, publication: Publication) -> None:
        """Send a message: never waits, never raises."""

    @abstractmethod
    def _start_closing(self, event: Event) -> None:
        """Send a close event after pending messages; never waits."""


def user_id_of(identity: Any) -> str | None:
    """Return the ``id`` of an identity, if it is a text."""
    user = getattr(identity, "id", None)
    return user if isinstance(user, str) else None


def session_id_of(identity: Any) -> str | None:
    """Return the ``session_id`` of an identity; ``None`` for none."""
    session_id: str | None = getattr(identity, "session_id", None)
    return session_id


def sign_in_time_of(identity: Any) -> float | None:
    """Return the ``signed_in_at`` of an identity; ``None`` for none.

    Raises:
        TypeError: It is not a finite number.
    """
    at: Any = getattr(identity, "signed_in_at", None)
    if at is None:
        return None
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not math.isfinite(at):
        raise TypeError(f"signed_in_at is {at!r}: give Unix seconds, or None if it is not known")
    return at

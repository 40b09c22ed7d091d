"""Revoked sessions and one-time tickets: methods of the connection manager."""

from __future__ import annotations

import math
import time

from ..backends.base import Backend
from ..backends.restriction_entry import (
    CLOCK_MARGIN_MS,
    SESSION,
    SESSIONS,
    Restriction,
    RestrictionChange,
    end_of,
)
from ..names import MAX_USER_NAME_BYTES, check_user_name, fault_of_name
from .moderation import Moderation


class SessionControl(Moderation):
    """Moderation, the revocation of sessions and tickets, in all processes that share a backend."""

    backend: Backend

    def _restriction_store(self) -> Backend:
        return self.backend

    async def restrictions(self) -> list[Restriction]:
        """Return the bans and mutes in force, as this process knows them, sorted by user."""
        return self.backend.restrictions.list()

    async def revoke_session(self, session_id: str, *, seconds: float) -> None:
        """Revoke a session: its connections are closed with 4401, and it opens no other.

        Args:
            session_id: The session, as in ``connection.session_id``: a text like a user's name
                (:func:`..names.check_user_name`).
            seconds: The time until the session's last token expires. The revocation ends a minute later, so that it
                outlives the token on a process whose clock is behind. A repeated call never shortens it.

        Raises:
            BackendUnavailable: As for :meth:`.moderation.Moderation.ban`.
            TooManyRestrictions: There are 80,000 restrictions; the remaining places are for bans and mutes.
            ValueError: The session or ``seconds`` is not valid.
        """
        if fault := fault_of_name(session_id, MAX_USER_NAME_BYTES):
            raise ValueError(f"the session id {fault}")
        until = end_of(seconds, time.time()) + CLOCK_MARGIN_MS
        await self.backend.restrict(RestrictionChange(SESSION, session_id, "", until))

    async def revoke_sessions(self, user_id: str, *, seconds: float) -> None:
        """Revoke all sessions of a user that have begun until now; otherwise like :meth:`revoke_session`.

        The user's connections are closed with 4401, those excepted whose ``connection.signed_in_at`` is later. A
        session that begins with a later sign-in is not affected. A new token of an old session is.

        Args:
            user_id: The user, as in ``connection.user``.
            seconds: The lifetime of the longest session.
        """
        now = time.time()
        until = end_of(seconds, now) + CLOCK_MARGIN_MS
        # NOTE: rounded up, so that a session of the same millisecond is revoked, too.
        issued_until = math.ceil(now * 1000)
        change = RestrictionChange(SESSIONS, check_user_name(user_id), "", until, issued_until)
        await self.backend.restrict(change)

    def is_revoked(self, session_id: str | None, user_id: str | None, signed_in_at: float) -> bool:
        """Return whether a session is revoked, as this process knows: two lookups.

        Args:
            session_id: The session; ``None`` if it has no id.
            user_id: Its user.
            signed_in_at: When its user has signed in, in Unix seconds, whatever token has been issued since: a
                refresh does not change it. A fraction distinguishes a sign-in right after :meth:`revoke_sessions`
                from those before.

        Raises:
            BackendUnavailable: This process has started while Redis is unavailable, and knows no restriction yet.
        """
        known = self.backend.restrictions
        known.check_known()
        return bool(known) and known.is_revoked(session_id, user_id, signed_in_at)

    async def issue_ticket(self, value: str, *, seconds: float = 60.0) -> str:
        """Return a one-time ticket for a value: 32 characters that a URL may contain, unguessable.

        Args:
            value: At most 4 KiB of UTF-8.
            seconds: The time in which it can be redeemed, at most a day.

        Raises:
            BackendUnavailable: Redis is unavailable.
            ValueError: The value is too large, or ``seconds`` is not valid.
        """
        return await self.backend.issue_ticket(value, seconds)

    async def redeem_ticket(self, ticket: str) -> str | None:
        """Return the value of a ticket, exactly once among all processes; ``None`` for any other text.

        An unused ticket may be lost with the data of Redis, and without Redis with this process.

        Raises:
            BackendUnavailable: Redis is unavailable; the ticket may have been used up.
        """
        return await self.backend.redeem_ticket(ticket)

"""The effect of restrictions on connections: new ones are refused, existing ones closed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from ..backends.restriction_entry import BAN, SESSION, SESSIONS, RestrictionEntry
from ..backends.restriction_table import RestrictionTable
from ..close_codes import ACCESS_DENIED, SESSION_ENDED
from ..connection.connection import Connection
from ..errors import Forbidden, Reject
from .commands import CloseCommands

SIGNED_OUT = "signed out"


class Enforcement:
    """Applies restrictions to the connections of this process.

    Args:
        restrictions: All restrictions.
        commands: Finds and closes connections, those included that are not accepted yet.
    """

    def __init__(self, restrictions: RestrictionTable, commands: CloseCommands) -> None:
        self.restrictions = restrictions
        self.commands = commands

    def apply(self, entry: RestrictionEntry) -> None:
        """Close the connections that a changed entry concerns.

        Of a user whose sessions are revoked, those that have signed in later are spared. A connection whose sign-in
        time is not known is closed, however late this process learns of the revocation: it may have been opened with
        an old token meanwhile.
        """
        if not self.restrictions.is_in_force(entry):
            return
        kind, subject, room = entry.parts
        if kind == BAN:
            reason = banned_text(entry.until / 1000)
            found = self.commands.in_room(room) if room else self.commands.of_user(subject)
            banned = [connection for connection in found if connection.user == subject]
            self.commands.close(banned, ACCESS_DENIED, reason)
        elif kind == SESSION:
            # PERF: an index by session would cost memory for each connection, and this is rare.
            known = self.commands.known
            revoked = [connection for connection in known if connection.session_id == subject]
            self.commands.close(revoked, SESSION_ENDED, SIGNED_OUT)
        elif kind == SESSIONS:
            found = self.commands.of_user(subject)
            revoked = [
                connection
                for connection in found
                if connection.signed_in_at is None or entry.revokes(connection.signed_in_at)
            ]
            self.commands.close(revoked, SESSION_ENDED, SIGNED_OUT)

    # PERF: without any restriction, each of these checks is one test of an empty dict.

    def check_connection(self, connection: Connection) -> None:
        """Refuse a user who is banned everywhere, and a revoked session.

        Raises:
            Reject: With 4403 or 4401.
            BackendUnavailable: See :meth:`check_identity`.
        """
        self.check_identity(connection, connection.session_id, connection.signed_in_at)

    def check_identity(
        self, connection: Connection, session_id: str | None, signed_in_at: float | None
    ) -> None:
        """Refuse a connection's user with a session, perhaps one that is about to replace its own.

        Raises:
            Reject: As for :meth:`check_connection`.
            BackendUnavailable: The connection has a user, and the restrictions are not known yet.
        """
        known = self.restrictions
        if connection.user is not None:
            known.check_known()
        if not known:
            return
        if until := known.banned_until(connection.user):
            raise Reject(ACCESS_DENIED, banned_text(until))
        # NOTE: a session may have been revoked after its token was checked, and before the connection was known here.
        if signed_in_at is None:
            signed_in_at = time.time() - (time.monotonic() - connection.opened_at)
        if known.is_revoked(session_id, connection.user, signed_in_at):
            raise Reject(SESSION_ENDED, SIGNED_OUT)

    def check_join(self, connection: Connection, room: str) -> None:
        """Refuse a user who is banned from a room, or everywhere.

        Raises:
            Forbidden: With the code ``banned``.
        """
        known = self.restrictions
        if known and (
            until := max(known.banned_until(connection.user, each) for each in ("", room))
        ):
            raise Forbidden(banned_text(until), code="banned")

    def check_send(self, connection: Connection, rooms: Iterable[str]) -> None:
        """Refuse a user who is muted in one of some rooms, or everywhere.

        Raises:
            Forbidden: With the code ``muted``.
        """
        if self.restrictions and (until := self.restrictions.muted_until(connection.user, rooms)):
            raise Forbidden(muted_text(until), code="muted")


def banned_text(until: float) -> str:
    """Return the sentence for a banned user."""
    return f"You are banned until {iso_time(until)}."


def muted_text(until: float) -> str:
    """Return the sentence for a muted user."""
    return f"You are muted until {iso_time(until)}."


def iso_time(until: float) -> str:
    """Return a time in UTC, such as ``2026-11-26T23:00:00Z``: not before the given one."""
    return datetime.fromtimestamp(math.ceil(until), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""Bans and mutes: methods of the connection manager and of publishers."""

from __future__ import annotations

import time
from typing import Protocol

from ..backends.restriction_entry import BAN, MUTE, Restriction, RestrictionChange, end_of
from ..names import check_room_name, check_user_name

DEFAULT_SECONDS = 3600.0


class RestrictionStore(Protocol):
    """The place of restrictions: a backend, or a publisher's access to one."""

    async def restrict(self, change: RestrictionChange) -> None:
        """See :meth:`..backends.restrictions.Restrictions.restrict`."""


class Moderation:
    """Bans and mutes users in all processes that share a backend.

    A ban or a mute is state with an end. It survives a loss of Redis's data while one process lives; without Redis it
    survives a restart if the backend has a state file.
    """

    def _restriction_store(self) -> RestrictionStore:
        """Return where changes go."""
        raise NotImplementedError

    async def restrictions(self) -> list[Restriction]:
        """Return the bans and mutes in force, sorted by user."""
        raise NotImplementedError

    async def ban(
        self, user_id: str, room: str | None = None, *, seconds: float = DEFAULT_SECONDS
    ) -> None:
        """Ban a user from a room or, without one, from all connections.

        The user's connections in that room, or all of them, are closed with 4403 and the end of the ban as reason.
        A handshake whose ``on_connect`` still runs is refused (HTTP 403), and its client learns the end when it tries
        again: until then, a new connection or join is closed with 4403. A later ban replaces an earlier one of the
        same user and room.

        Args:
            user_id: The user, as in ``connection.user``.
            room: The room; ``None`` for all.
            seconds: The duration, at most 100 years.

        Raises:
            BackendUnavailable: A process has not confirmed it within ``answer_seconds``, and applies it when it has
                recovered; or Redis is unavailable, and it is not applied at all; or the state file was not written.
            TooManyRestrictions: There are 100,000.
            ValueError: The user is not a valid name, or ``seconds`` is not valid.
            InvalidRoomName: The room is not a valid name.
        """
        await self._restrict(BAN, user_id, room, seconds)

    async def unban(self, user_id: str, room: str | None = None) -> None:
        """End a ban; no error if there is none. A ban from all rooms and one from a room are separate.

        Raises:
            See :meth:`ban`.
        """
        await self._restrict(BAN, user_id, room, None)

    async def mute(
        self, user_id: str, room: str | None = None, *, seconds: float = DEFAULT_SECONDS
    ) -> None:
        """Refuse what a user sends in a room or, without one, in all rooms.

        Handlers with ``action="send"`` are not called for the user's messages, which are answered with ``serverError``,
        code ``muted``. The connections stay open. Otherwise like :meth:`ban`.
        """
        await self._restrict(MUTE, user_id, room, seconds)

    async def unmute(self, user_id: str, room: str | None = None) -> None:
        """End a mute; otherwise like :meth:`unban`."""
        await self._restrict(MUTE, user_id, room, None)

    async def _restrict(
        self, kind: str, user: str, room: str | None, seconds: float | None
    ) -> None:
        check_user_name(user)
        if room is not None:
            check_room_name(room)
        until = 0 if seconds is None else end_of(seconds, time.time())
        await self._restriction_store().restrict(RestrictionChange(kind, user, room or "", until))

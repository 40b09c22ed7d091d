"""Joins and leaves of users that the members of a large room are sent together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from ..backends.presence import Presence
from ..connection.carrier import carried
from ..connection.connection import Connection
from ..presence import ChangeKind
from ..publication import Publication
from ..support.tasks import call_later
from .membership import Membership

# An announcement may wait so long for each member of its room, twenty times what a write to one member takes: then the
# announcements of a room take a twentieth of a core, and in a room of 500 or more, where the wait is the longest, a
# member is written to twenty times a second. In a room of fewer than 20 members, none waits.
SECONDS_PER_MEMBER = 0.0001
MIN_SECONDS = 0.002
MAX_SECONDS = 0.05
# So many announcements do not wait longer, whatever the time, nor those of a room in which more members are ahead: each
# message is delivered to all but these.
MAX_ANNOUNCEMENTS = 100

ANNOUNCED = (ChangeKind.JOINED, ChangeKind.LEFT)

# Delivers a message of a room to its members, except some connections.
Deliver = Callable[[str, Publication, Collection[Connection]], None]


class HeldAnnouncements:
    """The announcements of one room that wait.

    Attributes:
        messages: The announcements in order, each with the connections that do not receive it.
        passed: How many of the first ones a member does not receive from here: it has entered the room after them,
            or has been sent them already.
        timer: Ends the wait.
    """

    __slots__ = ("messages", "passed", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.messages: list[tuple[Publication, Collection[Connection]]] = []
        self.passed: dict[Connection, int] = {}
        self.timer = timer

    def catch_up(self, connection: Connection) -> None:
        """Send a member what it has not been sent."""
        first, self.passed[connection] = self.passed.get(connection, 0), len(self.messages)
        for publication, excluded in self.messages[first:]:
            if connection not in excluded:
                connection._receive(publication)


class Announcements(dict[str, HeldAnnouncements]):
    """The announcements that wait, by room: those of one room are written to its members at once.

    They have their place in the room: any other message of the room is delivered after them, and a member is sent them
    before any message of its own and before its close. Only messages of other rooms may overtake them, by
    :data:`MAX_SECONDS` at most.

    Args:
        members: The members of each room that receive live messages.
        deliver: Delivers a message.
    """

    def __init__(self, members: Membership[Connection, Presence], deliver: Deliver) -> None:
        super().__init__()
        self.members = members
        self.deliver = deliver

    def hold(
        self, room: str, publication: Publication, excluded: Collection[Connection] = ()
    ) -> bool:
        """Let a message of a room wait; return ``False`` for one that is to be delivered at once."""
        if publication.change is None or publication.change.kind not in ANNOUNCED:
            return False
        held = self.get(room)
        if held is None:
            seconds = len(self.members.members_by_room[room]) * SECONDS_PER_MEMBER
            if seconds < MIN_SECONDS:
                return False
            seconds = min(seconds, MAX_SECONDS)
            timer = call_later(asyncio.get_running_loop(), seconds, self.flush, room)
            held = self[room] = HeldAnnouncements(timer)
        held.messages.append((publication, excluded))
        if len(held.messages) >= MAX_ANNOUNCEMENTS:
            self.flush(room)
        return True

    def flush(self, room: str) -> None:
        """Deliver what waits in a room."""
        held = self.pop(room, None)
        if held is None:
            return
        held.timer.cancel()
        if room not in self.members.members_by_room:
            return
        for number, (publication, excluded) in enumerate(held.messages):
            passed = [each for each, count in held.passed.items() if count > number]
            self.deliver(room, publication, [*excluded, *passed])

    def flush_all(self) -> None:
        """Deliver all that waits."""
        for room in tuple(self):
            self.flush(room)

    def skip(self, connection: Connection, room: str) -> None:
        """Do not send what waits in a room to a connection that enters it now."""
        held = self.get(room)
        if held is not None:
            held.passed[connection] = len(held.messages)
            if len(held.passed) > MAX_ANNOUNCEMENTS:
                self.flush(room)

    def catch_up(self, connection: Connection) -> None:
        """Send a client what waits in all of its rooms, before another message or its close."""
        for member in tuple(carried((connection._carrier,))):
            rooms = self.members.rooms_by_member.get(member)
            for room in self.keys() & rooms.keys() if rooms else ():
                self.catch_up_in(room, member)

    def catch_up_in(self, room: str, member: Connection) -> None:
        """Send a member of a room what waits there: it is about to leave, or to read the list of members."""
        held = self.get(room)
        if held is not None and self.members.has(member, room):
            held.catch_up(member)
            if len(held.passed) > MAX_ANNOUNCEMENTS:
                self.flush(room)

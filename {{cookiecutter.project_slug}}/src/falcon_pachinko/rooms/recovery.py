"""What a client gets when it joins a room with history: missed or recent messages, and the position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ..backends.base import Backend
from ..connection.connection import Connection
from ..errors import BackendUnavailable, RegistrationError
from ..history import History, Position
from ..messages import ServerPosition
from ..publication import Publication


def fitting(
    connection: Connection, publications: list[Publication] | None
) -> list[Publication] | None:
    """Return the missed messages for a connection; ``None`` if they are incomplete or too many.

    At most half of the outbox is used for all rooms together, or the client would be closed as a slow
    reader because of its missed messages.
    """
    if publications is None:
        return None
    found = [each for each in publications if is_for(connection, each)]
    count, size_bytes = room_for(connection)
    fits = len(found) <= count and sum(each.size_bytes for each in found) <= size_bytes
    return found if fits else None


def is_for(connection: Connection, publication: Publication) -> bool:
    """Return whether a message was meant for the client of a connection, or of an earlier one."""
    return publication.is_for(connection._previous_ids, connection.user)


def room_for(connection: Connection) -> tuple[int, int]:
    """Return how many messages of the past, and of how many bytes, half of the outbox has place for."""
    limits, pending = connection.limits, connection._transaction or connection._outbox.backlog
    count = limits.outbox_messages // 2 - pending.count
    return count, limits.outbox_bytes // 2 - pending.size_bytes


def fitting_last(connection: Connection, publications: list[Publication]) -> list[Publication]:
    """Return the last messages for a connection that half of its outbox has place for."""
    found = [each for each in publications if is_for(connection, each)]
    count, size_bytes = room_for(connection)
    first = len(found)
    while first and len(found) - first < count and found[first - 1].size_bytes <= size_bytes:
        first -= 1
        size_bytes -= found[first].size_bytes
    return found[first:]


def check_history(histories: Mapping[str, History], connection: Connection, room: str) -> None:
    """Refuse a connection whose route declares another history for a room than the first route did.

    Raises:
        RegistrationError: It does.
    """
    history = connection._config.history
    declared = histories.get(room, history)
    if history is not None and history != declared:
        raise RegistrationError(
            f"room {room!r} has {declared!r} from another route, but this route declares {history!r}:"
            " give both routes the same history, or their rooms other names"
        )


class Past(NamedTuple):
    """What a connection gets of a room's past when it joins.

    Attributes:
        publications: The messages.
        recovered: Whether these are all that a reconnecting client has missed; unset for another client.
    """

    publications: list[Publication]
    recovered: bool | msgspec.UnsetType


async def past_of(backend: Backend, connection: Connection, room: str, recent: int) -> Past:
    """Return what a connection gets: all messages that it has missed, or else the last ones.

    Args:
        backend: The backend, which has subscribed to the room.
        connection: The connection; ``_since`` has its positions.
        room: The room.
        recent: The maximum number of last messages.

    Raises:
        BackendUnavailable: Unknown until the backend has recovered.
    """
    since = connection._since
    if connection._config.history is None:
        return Past([], msgspec.UNSET)
    if backend.position(room) is None:
        raise BackendUnavailable(f"the position of room {room!r} is unknown")
    missed = fitting(connection, await backend.recover(room, since)) if since else None
    if missed is not None or not recent:
        return made(connection, missed)
    return made(connection, None, fitting_last(connection, await backend.recent(room, recent)))


def local_past_of(backend: Backend, connection: Connection, room: str, recent: int) -> Past:
    """Like :func:`past_of`, from the data in this process only."""
    missed = fitting(connection, backend.recover_local(room, connection._since))
    if missed is not None or not recent:
        return made(connection, missed)
    return made(connection, None, fitting_last(connection, backend.recent_local(room, recent)))


def made(
    connection: Connection, missed: list[Publication] | None, recent: Sequence[Publication] = ()
) -> Past:
    """Make the result from the missed messages, or the last ones without them."""
    recovered = missed is not None if connection._since else msgspec.UNSET
    return Past(list(recent) if missed is None else missed, recovered)


def send_past(connection: Connection, position: Position | None, past: Past) -> None:
    """Send the past of a room with history, then its position.

    Args:
        connection: A client that has joined the room.
        position: The position of the room; ``None`` without a history.
        past: The messages.
    """
    if position is None or connection._config.history is None:
        return
    for publication in past.publications:
        connection._deliver(publication)
    send_position(connection, position, past.recovered)


def send_position(
    connection: Connection, position: Position, recovered: bool | msgspec.UnsetType
) -> None:
    """Send the position of a room to one of its clients."""
    seconds = connection._config.heartbeat_interval
    connection._deliver(position_message(connection.id, position, recovered, seconds))


def position_message(
    connection_id: str,
    position: Position,
    recovered: bool | msgspec.UnsetType,
    heartbeat_seconds: float | None,
) -> Publication:
    """Make the ``serverPosition`` message of one client in a room."""
    seconds = msgspec.UNSET if heartbeat_seconds is None else heartbeat_seconds
    publication = Publication(
        ServerPosition(connection=connection_id, recovered=recovered, heartbeat_seconds=seconds)
    )
    publication.number(position, shown=True)
    return publication


def positions_message(positions: dict[str, list[str]], heartbeat_seconds: float) -> Publication:
    """Make the ``serverPosition`` message for an idle client that is in several rooms."""
    return Publication(ServerPosition(heartbeat_seconds=heartbeat_seconds, rooms=positions))


def repeated_position_message(position: Position | None, heartbeat_seconds: float) -> Publication:
    """Make the ``serverPosition`` message for idle clients; without a position for those without history."""
    publication = Publication(ServerPosition(heartbeat_seconds=heartbeat_seconds))
    if position is not None:
        publication.number(position, shown=True)
    return publication

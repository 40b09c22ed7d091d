"""What a client gets when it joins a room with history: the missed messages, and the position."""

from __future__ import annotations

import msgspec

from ..connection.connection import Connection
from ..history import Position
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
    ids, user = connection._previous_ids, connection.user
    found = [each for each in publications if each.is_for(ids, user)]
    limits, pending = connection.limits, connection._transaction or connection._outbox.backlog
    size_bytes = pending.size_bytes + sum(each.size_bytes for each in found)
    fits = size_bytes <= limits.outbox_bytes // 2
    return found if fits and pending.count + len(found) <= limits.outbox_messages // 2 else None


def send_missed(
    connection: Connection,
    position: Position | None,
    missed: list[Publication] | None,
    *,
    reconnected: bool,
) -> None:
    """Send the missed messages of a room with history, then its position.

    Args:
        connection: A client that has joined the room.
        position: The position of the room; ``None`` without a history.
        missed: The messages; ``None`` if they are incomplete.
        reconnected: Whether the client has named a position of its own.
    """
    if position is None or connection._config.history is None:
        return
    for publication in missed or ():
        connection._deliver(publication)
    send_position(connection, position, missed is not None if reconnected else msgspec.UNSET)


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


def repeated_position_message(position: Position | None, heartbeat_seconds: float) -> Publication:
    """Make the ``serverPosition`` message for idle clients; without a position for those without history."""
    publication = Publication(ServerPosition(heartbeat_seconds=heartbeat_seconds))
    if position is not None:
        publication.number(position, shown=True)
    return publication

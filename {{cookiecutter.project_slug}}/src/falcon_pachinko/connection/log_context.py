"""The connection that a log record belongs to: its fields, read only when a record is made."""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from typing import Any, Protocol
from weakref import ref

from .inbox import Inbox, Message
from .outbox import Outbox
from .replies import request_of

logger = logging.getLogger(__package__)

# SECURITY: the type of a message is a text of the client.
MAX_TYPE_CHARACTERS = 64

LogFields = dict[str, str | float | None]


class Rooms(Protocol):
    """What is known about the rooms of connections: the registry."""

    def rooms_of(self, connection: Any) -> dict[str, Any]:
        """Return the rooms of a connection."""
        ...

    def remove(self, connection: Any) -> None:
        """Remove a connection at its end."""
        ...


class Life(Protocol):
    """The life cycle of a connection: what its resource does now."""

    message: Message | None
    busy_since: float | None
    registry: Rooms


class Logged(Protocol):
    """A connection, or a room of one that is in several."""

    id: str
    user: str | None
    close_code: int | None
    opened_at: float
    _inbox: Inbox
    _outbox: Outbox
    _life: Life | None
    _route: str | None


# NOTE: tasks and timers that a handler starts inherit it, and must not keep the connection alive.
CURRENT: ContextVar[ref[Any] | None] = ContextVar("falcon_pachinko.connection", default=None)


def current_fields() -> LogFields:
    """Return the fields of the connection whose code is running; none outside the code of one.

    A record factory or a filter of :mod:`logging` adds them to each record. They are those of :func:`fields_of`
    that are known.
    """
    current = CURRENT.get()
    connection = None if current is None else current()
    if connection is None:
        return {}
    return {name: value for name, value in fields_of(connection).items() if value is not None}


def fields_of(connection: Logged) -> LogFields:
    """Return the fields of a connection, as ``extra`` of a record that another connection may have caused.

    ``connection_id``, ``user_id``, ``room`` (the room that it is in, unless it is in several), ``route`` (the URI
    template), ``message_type`` (of the message that its handler is busy with; at most 64 characters of the client's
    text) and ``close_code``. One that is not known is ``None``.
    """
    life = connection._life
    rooms = [] if life is None else list(life.registry.rooms_of(connection))
    return {
        "connection_id": connection.id,
        "user_id": connection.user,
        "room": rooms[0] if len(rooms) == 1 else None,
        "route": connection._route,
        "message_type": running_type_of(life),
        "close_code": connection.close_code,
    }


def running_type_of(life: Life | None) -> str | None:
    """Return the type of the message that a handler is busy with."""
    if life is None or life.busy_since is None or life.message is None:
        return None
    return type_of(life.message)


def type_of(message: Message) -> str | None:
    """Return the type of a message of a client, shortened; ``None`` for one without a type."""
    found: str = request_of(message).type
    return found[:MAX_TYPE_CHARACTERS] or None


def log_info(connection: Logged, text: str, *values: object) -> None:
    """Log a record about a connection, whose cause may be the code of another one."""
    logger.info(text, *values, extra=fields_of(connection))


def log_end(connection: Logged, name: str, fields: LogFields, *, accepted: bool) -> None:
    """Log the one line about the whole connection: how long it was, how much was received and sent, its close code.

    Args:
        connection: The connection, which has left its rooms, or the room of one that is in several.
        name: The name of the resource class.
        fields: Its :func:`fields_of` before it has left them.
        accepted: Whether ``on_connect`` has accepted it.
    """
    inbox, outbox = connection._inbox, connection._outbox
    seconds = round(time.monotonic() - connection.opened_at, 3)
    counts: LogFields = {
        "seconds": seconds,
        "messages_in": inbox.received,
        "messages_out": outbox.sent,
    }
    text = f"{inbox.received} messages in, {outbox.sent} out"
    if outbox.measures_bytes:
        counts |= {"bytes_in": inbox.received_bytes, "bytes_out": outbox.sent_bytes}
        text += f"; {inbox.received_bytes} bytes in, {outbox.sent_bytes} out"
    verb = "closed" if accepted else "refused"
    code = fields["close_code"] or "no close code"
    extra = fields | counts
    logger.info("%s: %s after %.3f s with %s: %s", name, verb, seconds, code, text, extra=extra)

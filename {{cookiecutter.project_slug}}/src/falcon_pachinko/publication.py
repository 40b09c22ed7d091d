"""Between messages and what backends carry."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from .backends.base import EVERYBODY, Address, Entry, Position
from .close_codes import check_close_code
from .messages import BINARY, TEXT, Outgoing, ServerPosition, with_id


def entry_of(
    message: object, without: tuple[str, ...] = (), without_users: Collection[str] = ()
) -> Entry:
    """What a backend carries of a message.

    Args:
        message: A :class:`~falcon_pachinko.messages.Message` or anything that JSON can hold.
        without: The ids of connections that do not get it.
        without_users: Users who do not get it.

    Raises:
        TypeError: It holds something that JSON cannot, or a text stands for many users.
    """
    if isinstance(without_users, str):
        raise TypeError(f"exclude_users is {without_users!r}: give a list of users")
    outgoing = Outgoing.of(message)
    address = EVERYBODY
    if without or without_users or outgoing.opcode == BINARY:
        address = Address(
            binary=outgoing.opcode == BINARY,
            without=without,
            without_users=tuple(without_users),
        )
    entry = Entry(outgoing.data, address)
    entry.outgoing = outgoing
    return entry


def addressed(entry: Entry, *, user: str | None = None, connection: str | None = None) -> Entry:
    """The same for a user or a connection only."""
    address = msgspec.structs.replace(entry.address, user=user, connection=connection)
    made = Entry(entry.data, address)
    made.outgoing = entry.outgoing
    return made


def close_entry(code: int, reason: str) -> Entry:
    """An order to close.

    Raises:
        ValueError: The code is not one that an endpoint may send.
    """
    return Entry(reason.encode(errors="replace"), Address(close_code=check_close_code(code)))


def outgoing_of(entry: Entry) -> Outgoing:
    """What goes to clients, made once for all of them."""
    outgoing = entry.outgoing
    if not isinstance(outgoing, Outgoing):
        binary = entry.address.binary
        named = entry.shown and not binary
        data = with_id(entry.data, entry.position) if named else entry.data
        outgoing = Outgoing.of_encoded(data, BINARY if binary else TEXT)
        entry.outgoing = outgoing
    return outgoing


def position_message(
    connection_id: str, position: Position, recovered: bool | msgspec.UnsetType
) -> Outgoing:
    """Where a room stands, for one client."""
    message = Outgoing(ServerPosition(connection=connection_id, recovered=recovered))
    return Outgoing.of_encoded(with_id(message.data, position))

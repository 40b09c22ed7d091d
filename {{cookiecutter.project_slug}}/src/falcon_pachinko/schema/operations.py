"""The operations of a channel in an AsyncAPI document: requests with their replies, and messages to clients."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from ..handlers import HandlerTable
from ..messages import (
    CLIENT_JOIN,
    CLIENT_LEAVE,
    CLIENT_PING,
    Message,
    ServerError,
    ServerJoined,
    ServerLeft,
    ServerPong,
)

Replies = tuple[type[Message], ...]

# The replies to requests that the framework handles without a handler.
BUILT_IN: dict[str, Replies] = {
    CLIENT_PING: (ServerPong, ServerError),
    CLIENT_JOIN: (ServerJoined, ServerError),
    CLIENT_LEAVE: (ServerLeft, ServerError),
}


def reference(place: str, key: str) -> dict[str, str]:
    """Return a Reference Object."""
    return {"$ref": f"#/{place}/{key}"}


def unique_name(name: str, taken: Container[str]) -> str:
    """Return the name, or the first free one of ``name2``, ``name3`` and so on."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}{number}"
    return free


def replies_of(handlers: HandlerTable, message_type: str) -> Replies:
    """Return the classes of the messages that may answer a request; none for a binary message."""
    if message_type in BUILT_IN:
        return BUILT_IN[message_type]
    found = handlers.reply_types.get(message_type)
    return tuple(dict.fromkeys((*found, ServerError))) if found else ()


def all_replies(handlers: HandlerTable) -> set[type[Message]]:
    """Return the classes of all messages that may answer a request."""
    types = (*handlers.reply_types, *BUILT_IN)
    return {each for message_type in types for each in replies_of(handlers, message_type)}


def operations_of(
    name: str,
    handlers: HandlerTable,
    *,
    receive: Mapping[str, str],
    send: Mapping[str, str],
    taken: Iterable[str] = (),
) -> dict[str, dict[str, Any]]:
    """Return the Operation Objects of a channel by their names.

    Most requests share one operation, with the replies of most; one with other replies has an operation of its own.

    Args:
        name: The name of the channel.
        handlers: Its handlers.
        receive: The keys of the messages of clients by their types.
        send: The keys of the messages to clients by their types.
        taken: The names of operations of other channels.
    """
    groups: dict[Replies, list[str]] = {}
    for message_type in receive:
        groups.setdefault(replies_of(handlers, message_type), []).append(message_type)
    shared = max(groups, key=lambda replies: len(groups[replies]), default=())
    suffix = name[:1].upper() + name[1:]
    operations: dict[str, dict[str, Any]] = {}
    for replies in sorted(groups, key=lambda each: each != shared):
        for types in [groups[replies]] if replies == shared else [[t] for t in groups[replies]]:
            own = "" if replies == shared else receive[types[0]].rpartition(".")[2]
            full = f"receive{suffix}{own[:1].upper()}{own[1:]}"
            operation = describe(name, "receive", (receive[each] for each in types))
            answers = [send[str(each.__struct_config__.tag)] for each in replies]
            if answers:
                operation["reply"] = {
                    "channel": reference("channels", name),
                    "messages": [reference(f"channels/{name}/messages", key) for key in answers],
                }
            operations[unique_name(full, {*operations, *taken})] = operation
    if send:
        operations[unique_name(f"send{suffix}", {*taken})] = describe(name, "send", send.values())
    return operations


def describe(name: str, action: str, keys: Iterable[str]) -> dict[str, Any]:
    """Return an Operation Object for messages of a channel."""
    return {
        "action": action,
        "channel": reference("channels", name),
        "messages": [reference(f"channels/{name}/messages", key) for key in keys],
    }

"""The channels of an AsyncAPI document: each route with its messages."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from ..connection.envelope import may_be_missing
from ..connection.joins import ClientJoin, ClientLeave, JoinPayload, LeavePayload
from ..contract import Contract, first_paragraph
from ..messages import (
    CLIENT_PING,
    CLIENT_REFRESH_SESSION,
    CLIENT_REPLY,
    ClientPing,
    ClientReply,
    Message,
    ReplyPayload,
    ServerPong,
    ServerSessionExpiring,
    ServerSessionRefreshed,
)
from ..routing.route import WebSocketRoute
from .operations import all_replies, unique_name

# One object, so that the schemas of the same messages are made once.
PING_PAYLOAD = dict[str, Any]
# Messages that are never about a room.
OF_CONNECTION = frozenset({ServerPong, ServerSessionExpiring, ServerSessionRefreshed})
INVALID_IN_KEY = re.compile(r"[^\w.-]", re.ASCII)


@dataclass(slots=True)
class ChannelMessage:
    """A message type of one channel and direction.

    Attributes:
        name: The message type; for binary messages a name that is not sent.
        payload_type: The Python type of the payload; ``bytes`` for a binary message.
        required: Whether the payload is required.
        summary: The purpose of the message.
        has_position: Whether ``id`` may hold its position in the room.
        has_ref: Whether ``ref`` may hold the reference of a request.
        has_room: Whether ``room`` may name the room that it is about.
        schema: The JSON Schema of the payload, set by :func:`set_schemas`.
    """

    name: str
    payload_type: Any
    required: bool
    summary: str
    has_position: bool = False
    has_ref: bool = False
    has_room: bool = False
    schema: Any = None


@dataclass(slots=True)
class Channel:
    """A route, with its messages by the operation's action."""

    name: str
    route: WebSocketRoute
    contract: Contract
    messages: dict[str, list[ChannelMessage]]


def build_channels(routes: Iterable[WebSocketRoute]) -> Iterator[Channel]:
    """Yield a channel with a unique name for each route."""
    taken: set[str] = set()
    routes = list(routes)
    in_rooms = {route.resource_class for route in routes if route.contract.has_rooms}
    for route in routes:
        owner = route.resource_class
        name = owner.__name__.removesuffix("Resource") or owner.__name__
        contract = route.contract
        name = INVALID_IN_KEY.sub("_", name[:1].lower() + name[1:]) + "s" * contract.has_rooms
        name = unique_name(name, taken)
        taken.add(name)
        messages = {
            "receive": list(received_messages(contract, has_room=owner in in_rooms)),
            "send": list(sent_messages(contract, has_room=owner in in_rooms)),
        }
        yield Channel(name, route, contract, messages)


def received_messages(contract: Contract, *, has_room: bool = False) -> Iterator[ChannelMessage]:
    """Yield the messages of clients, with the summary of the handler or else of the payload.

    Args:
        contract: The contract of the route.
        has_room: Whether this or another route of the class is for several rooms per connection: its messages are
            those of both routes.
    """
    for message_type, handler in contract.handlers.by_type.items():
        payload_type = contract.handlers.payload_types[message_type]
        is_struct = isinstance(payload_type, type) and issubclass(payload_type, msgspec.Struct)
        summary = first_paragraph(handler) or (first_paragraph(payload_type) if is_struct else "")
        rate, once = (
            contract.handlers.rates.get(message_type),
            contract.handlers.once.get(message_type),
        )
        summary = " ".join(str(each) for each in (summary, rate, once) if each)
        is_required = not may_be_missing(payload_type)
        yield ChannelMessage(
            message_type,
            payload_type,
            is_required,
            summary,
            has_ref=True,
            has_room=has_room and message_type != CLIENT_REFRESH_SESSION,
        )
    if (binary := contract.handlers.binary) is not None:
        yield ChannelMessage(
            unique_name("clientBinary", contract.handlers.by_type),
            bytes,
            True,
            first_paragraph(binary),
        )
    if contract.has_rooms:
        for request, payload in ((ClientJoin, JoinPayload), (ClientLeave, LeavePayload)):
            tag = str(request.__struct_config__.tag)
            yield ChannelMessage(tag, payload, True, first_paragraph(request), has_ref=True)
    summary = first_paragraph(ClientPing)
    yield ChannelMessage(CLIENT_PING, PING_PAYLOAD, False, summary, has_ref=True)
    yield ChannelMessage(
        CLIENT_REPLY,
        ReplyPayload,
        False,
        first_paragraph(ClientReply),
        has_ref=True,
        has_room=has_room,
    )


def sent_messages(contract: Contract, *, has_room: bool = False) -> Iterator[ChannelMessage]:
    """Yield the messages to clients."""
    replies = all_replies(contract.handlers)
    for message_type, message_class in contract.sends.items():
        yield ChannelMessage(
            message_type,
            payload_struct(message_class),
            True,
            first_paragraph(message_class),
            has_position=contract.has_positions,
            has_ref=message_class in replies,
            has_room=has_room and message_class not in OF_CONNECTION,
        )
    if contract.sends_binary:
        yield ChannelMessage(unique_name("serverBinary", contract.sends), bytes, True, "")


@functools.cache
def payload_struct(message_class: type[Message]) -> type[msgspec.Struct]:
    """Return a struct of the payload of a message: its fields without the type."""
    fields: list[tuple[str, Any, Any]] = []
    for each in msgspec.structs.fields(message_class):
        options: dict[str, Any] = {"name": each.encode_name}
        if each.default is not msgspec.NODEFAULT:
            options["default"] = each.default
        if each.default_factory is not msgspec.NODEFAULT:
            options["default_factory"] = each.default_factory
        fields.append((each.name, each.type, msgspec.field(**options)))
    # NOTE: the module distinguishes it from the message, which may be a field of another message.
    module = f"{message_class.__module__}.payloads"
    return msgspec.defstruct(message_class.__name__, fields, module=module, kw_only=True)

"""An AsyncAPI document of an application's WebSocket routes (AsyncAPI specification 3.0.0).

Operations take the application's side: ``receive`` lists the messages of clients, ``send`` those to clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

import msgspec

from ..app import App
from ..contract import first_paragraph
from ..errors import RegistrationError
from ..messages import MAX_REF_CHARACTERS
from ..routing.route import TEMPLATE_FIELD
from .channel import INVALID_IN_KEY, Channel, ChannelMessage, build_channels
from .examples import example_of
from .json_schema import schemas_of
from .operations import operations_of, reference, unique_name

ENVELOPE = (
    'Messages in both directions are JSON text of the form `{"type": "...", "payload": {...}}`.'
    " A payload that is not required may be omitted. A message of a client with a `ref` is a request: its"
    " reply or its error has the same `ref`."
)
POSITION = {
    "type": "string",
    "pattern": "^[0-9a-f]{16}:[0-9]+$",
    "description": "The message's position in a room with history. A reconnecting client passes"
    " the last position that it received as `since` in the URL's query and gets the messages that"
    " it missed. Direct and ephemeral messages have no position.",
    "examples": ["74f1c09d2be85a36:42"],
}
PUBLISHED = {
    "type": "integer",
    "description": "The time of the message in Unix milliseconds, from the clock that numbers the room; beside each `id`"
    " except that of `serverPosition`.",
    "examples": [1_732_700_000_000],
}
REF = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_REF_CHARACTERS,
    "description": "Chosen by the client for a request. Its reply, or the error, has the same one; without it,"
    " nothing is acknowledged.",
    "examples": ["7"],
}

ROOMS = (
    "A connection is in no room at first, and in many after `clientJoin`: with a `room`, a message is that of a room, as"
    " on a connection of its own; the others are about the connection itself."
)
ROOM = {
    "type": "string",
    "description": "The name of the room, on a connection that may be in several rooms. Absent in a message about that"
    " connection, and on a connection of one room.",
    "examples": ["general"],
}


def describe(
    app: App,
    *,
    info: Mapping[str, Any],
    servers: Mapping[str, Mapping[str, Any]],
    security_schemes: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the AsyncAPI document of an application.

    Each route is a channel, named after its resource class. Summaries are the docstrings of
    handlers, messages and classes; fields and parameters are described by their ``msgspec.Meta``.
    The extension ``x-close-codes`` of a channel gives the meaning of each close code.

    Args:
        app: The application, with all routes added.
        info: The Info Object; needs ``title`` and ``version``.
        servers: Server Objects by name, as in ``{"dev": {"host": "127.0.0.1", "protocol": "ws"}}``.
        security_schemes: Security Scheme Objects by name, as alternatives.

    Returns:
        An object that JSON can represent, with its keys in reading order.

    Raises:
        RegistrationError: The resource class of a route is unknown, or a message needs an example.
    """
    channels = list(build_channels(app.ws_routes))
    shared = set_schemas(
        each for channel in channels for listed in channel.messages.values() for each in listed
    )
    messages: dict[str, Any] = {}
    described: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for channel in channels:
        described[channel.name] = describe_channel(channel, servers)
        keys = {
            action: {each.name: add_message(messages, channel.name, each) for each in listed}
            for action, listed in channel.messages.items()
        }
        known = [key for by_name in keys.values() for key in by_name.values()]
        described[channel.name]["messages"] = {
            key: reference("components/messages", key) for key in known
        }
        operations |= operations_of(
            channel.name, channel.contract.handlers, **keys, taken=operations
        )
    security = [reference("components/securitySchemes", name) for name in security_schemes]
    return {
        "asyncapi": "3.0.0",
        "info": dict(info),
        "defaultContentType": "application/json",
        "servers": {
            name: {**server, **({"security": security} if security else {})}
            for name, server in servers.items()
        },
        "channels": described,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": shared,
            "securitySchemes": dict(security_schemes),
        },
    }


def set_schemas(messages: Iterable[ChannelMessage]) -> dict[str, Any]:
    """Set the payload schema of each message; return the schemas that they refer to.

    Raises:
        RegistrationError: A payload has no schema.
    """
    typed = [each for each in messages if each.payload_type is not bytes]
    try:
        schemas, shared = schemas_of([each.payload_type for each in typed])
    except TypeError as error:
        raise RegistrationError(f"a payload cannot be described: {error}") from error
    for each, schema in zip(typed, schemas, strict=True):
        each.schema = schema
    return shared


def add_message(messages: dict[str, Any], channel: str, message: ChannelMessage) -> str:
    """Add a message to the components and return its key; channels share equal messages."""
    described = describe_message(message)
    key = INVALID_IN_KEY.sub("_", message.name)
    if messages.setdefault(key, described) != described:
        key = unique_name(f"{channel}.{key}", messages)
        messages[key] = described
    return key


def describe_message(message: ChannelMessage) -> dict[str, Any]:
    """Return the Message Object, with the schema of the whole envelope.

    Raises:
        RegistrationError: No valid example can be derived from the types.
    """
    described: dict[str, Any] = {"name": message.name}
    if message.summary:
        described["summary"] = message.summary
    if message.payload_type is bytes:
        return {
            **described,
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "format": "binary"},
        }
    example = {"type": message.name}
    try:
        payload = example_of(message.payload_type)
    except ValueError as error:
        raise RegistrationError(
            f"{message.name!r} needs an example: {error}: add one to the field, as in"
            " Annotated[str, msgspec.Meta(pattern=..., examples=[...])]"
        ) from error
    if message.required or payload:
        example["payload"] = payload
    properties = {"type": {"const": message.name}, "payload": message.schema}
    if message.has_position:
        properties["id"], properties["at"] = POSITION, PUBLISHED
    if message.has_room:
        properties["room"] = ROOM
    if message.has_ref:
        properties["ref"] = REF
        described["correlationId"] = {"location": "$message.payload#/ref"}
    return {
        **described,
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": ["type", "payload"] if message.required else ["type"],
            "properties": properties,
        },
        "examples": [{"payload": example}],
    }


def describe_channel(channel: Channel, servers: Iterable[str]) -> dict[str, Any]:
    """Return the Channel Object, still without messages."""
    owner, template = channel.route.resource_class, channel.route.uri_template
    has_rooms = channel.contract.has_rooms
    title, rooms = owner.__name__.removesuffix("Resource"), ROOMS if has_rooms else ""
    return {
        "address": TEMPLATE_FIELD.sub(r"{\1}", template),
        "title": title + "s" * has_rooms,
        "description": " ".join(filter(None, (first_paragraph(owner), ENVELOPE, rooms))),
        "servers": [reference("servers", name) for name in servers],
        "parameters": {
            name: describe_parameter(owner, name) for name in TEMPLATE_FIELD.findall(template)
        },
        "bindings": {"ws": {"method": "GET"}},
        "x-close-codes": {str(code): text for code, text in channel.contract.closes.items()},
        "messages": {},
    }


def describe_parameter(owner: type, name: str) -> dict[str, Any]:
    """Return the Parameter Object, from the ``msgspec.Meta`` of the parameter of ``on_connect``."""
    try:
        hints = get_type_hints(owner.on_connect, include_extras=True)  # type: ignore[attr-defined]
    except NameError:  # a name imported under TYPE_CHECKING only
        return {}
    described: dict[str, Any] = {}
    for meta in getattr(hints.get(name), "__metadata__", ()):
        if isinstance(meta, msgspec.Meta):
            if meta.description:
                described["description"] = meta.description
            if meta.examples:
                described["examples"] = [str(each) for each in meta.examples]
    return described

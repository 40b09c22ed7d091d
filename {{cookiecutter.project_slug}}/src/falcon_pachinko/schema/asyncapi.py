"""An AsyncAPI document of an application's WebSocket routes (AsyncAPI specification 3.0.0).

Operations take the application's side: ``receive`` lists the messages of clients, ``send`` those to clients.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import msgspec

from ..app import App
from ..contract import Contract, first_paragraph
from ..errors import RegistrationError
from ..handlers import may_be_missing
from ..messages import ClientPing, Message
from ..routing import TEMPLATE_FIELD, WebSocketRoute
from .examples import example_of
from .json_schema import schemas_of

ENVELOPE = (
    'Messages in both directions are JSON text of the form `{"type": "...", "payload": {...}}`.'
    " A payload that is not required may be omitted."
)
POSITION = {
    "type": "string",
    "pattern": "^[0-9a-f]{16}:[0-9]+$",
    "description": "The message's position in a room with history. A reconnecting client passes"
    " the last position that it received as `since` in the URL's query and gets the messages that"
    " it missed. Direct and ephemeral messages have no position.",
    "examples": ["74f1c09d2be85a36:42"],
}
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
        schema: The JSON Schema of the payload, set by :func:`set_schemas`.
    """

    name: str
    payload_type: Any
    required: bool
    summary: str
    has_position: bool = False
    schema: Any = None


@dataclass(slots=True)
class Channel:
    """A route, with its messages by the operation's action."""

    name: str
    route: WebSocketRoute
    contract: Contract
    messages: dict[str, list[ChannelMessage]]


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
        for action, listed in channel.messages.items():
            keys = [add_message(messages, channel.name, each) for each in listed]
            if keys:
                known = {key: reference("components/messages", key) for key in keys}
                described[channel.name]["messages"] |= known
                place = f"channels/{channel.name}/messages"
                operations[action + channel.name[:1].upper() + channel.name[1:]] = {
                    "action": action,
                    "channel": reference("channels", channel.name),
                    "messages": [reference(place, key) for key in keys],
                }
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


def build_channels(routes: Iterable[WebSocketRoute]) -> Iterator[Channel]:
    """Yield a channel with a unique name for each route."""
    taken: set[str] = set()
    for route in routes:
        owner = route.resource_class
        name = owner.__name__.removesuffix("Resource") or owner.__name__
        name = unique_name(INVALID_IN_KEY.sub("_", name[:1].lower() + name[1:]), taken)
        taken.add(name)
        contract = route.contract
        messages = {
            "receive": list(received_messages(contract)),
            "send": list(sent_messages(contract)),
        }
        yield Channel(name, route, contract, messages)


def received_messages(contract: Contract) -> Iterator[ChannelMessage]:
    """Yield the messages of clients, with the summary of the handler or else of the payload."""
    for message_type, handler in contract.handlers.by_type.items():
        payload_type = contract.handlers.payload_types[message_type]
        is_struct = isinstance(payload_type, type) and issubclass(payload_type, msgspec.Struct)
        summary = first_paragraph(handler) or (first_paragraph(payload_type) if is_struct else "")
        summary = f"{summary} {contract.handlers.rates.get(message_type, '')}".strip()
        yield ChannelMessage(message_type, payload_type, not may_be_missing(payload_type), summary)
    if (binary := contract.handlers.binary) is not None:
        yield ChannelMessage("clientBinary", bytes, True, first_paragraph(binary))
    yield ChannelMessage("clientPing", dict[str, Any], False, first_paragraph(ClientPing))


def sent_messages(contract: Contract) -> Iterator[ChannelMessage]:
    """Yield the messages to clients."""
    for message_type, message_class in contract.sends.items():
        summary = first_paragraph(message_class)
        payload_type = payload_struct(message_class)
        yield ChannelMessage(message_type, payload_type, True, summary, contract.has_positions)
    if contract.sends_binary:
        yield ChannelMessage("serverBinary", bytes, True, "")


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
        properties["id"] = POSITION
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
    return {
        "address": TEMPLATE_FIELD.sub(r"{\1}", template),
        "title": owner.__name__.removesuffix("Resource"),
        "description": " ".join(filter(None, (first_paragraph(owner), ENVELOPE))),
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

"""The contract of an application as an AsyncAPI document, made of the resources that are routed.

    document = describe(app, info={"title": "Chat", "version": "1.0.0"}, servers={...})

It takes the application's side: an operation with the action ``receive`` is what clients may say, one
with ``send`` what they are told (https://www.asyncapi.com/docs/reference/specification/v3.0.0).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import msgspec

from ..app import App
from ..contract import Contract, first_paragraph
from ..errors import RegistrationError
from ..handlers import may_be_missing
from ..messages import Message
from ..routing import TEMPLATE_FIELD, WebSocketRoute
from .examples import example_of
from .json_schema import schemas_of

ENVELOPE = (
    'Both ways a message is JSON text of the form `{"type": "...", "payload": {...}}`. A payload that'
    " is not required may be missing."
)
POSITION = {
    "type": "string",
    "pattern": "^[0-9a-f]{16}:[0-9]+$",
    "description": "The message's position in a room with history. A client that comes back gives the last one"
    " that it has got as `since` in the URL's query, and gets what it missed. A direct or ephemeral message"
    " has none.",
    "examples": ["74f1c09d2be85a36:42"],
}
NOT_IN_A_KEY = re.compile(r"[^\w.-]", re.ASCII)


@dataclass(slots=True)
class Spoken:
    """One type of message on one channel.

    Attributes:
        name: The type; for binary messages a name that is not on the wire.
        payload_type: What the payload is decoded to or encoded from; ``bytes`` for a binary message.
        required: Whether the payload may not be missing.
        summary: What the message is for.
        has_position: Whether it may have its position in the room as ``id``.
        schema: The payload's, once those of all messages are known.
    """

    name: str
    payload_type: Any
    required: bool
    summary: str
    has_position: bool = False
    schema: Any = None


@dataclass(slots=True)
class Channel:
    """One route: what is said there, by the operation's action."""

    name: str
    route: WebSocketRoute
    contract: Contract
    spoken: dict[str, list[Spoken]] = field(default_factory=dict)


def describe(
    app: App,
    *,
    info: Mapping[str, Any],
    servers: Mapping[str, Mapping[str, Any]],
    security_schemes: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Describe what all WebSocket routes of an application understand and send.

    Each route is a channel, named after its resource class. Summaries are the docstrings of handlers, of
    messages and of the class; fields and parameters are described by their ``msgspec.Meta``. Besides what
    AsyncAPI knows, a channel says in ``x-close-codes`` why a connection is closed.

    Args:
        app: The application, once all routes have been added.
        info: AsyncAPI's Info Object: ``title`` and ``version`` at least.
        servers: Where it is served, by a name: Server Objects, such as
            ``{"development": {"host": "127.0.0.1:8000", "protocol": "ws"}}``.
        security_schemes: How clients say who they are, by a name: Security Scheme Objects. Any one of
            them is enough.

    Returns:
        An object that JSON can hold, in an order made for reading.

    Raises:
        RegistrationError: The resource class of a route is not known, or a message needs an example.
    """
    channels = list(channels_of(app.ws_routes))
    shared = set_schemas(
        each for channel in channels for way in channel.spoken.values() for each in way
    )
    messages: dict[str, Any] = {}
    described: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for channel in channels:
        described[channel.name] = describe_channel(channel, servers)
        for action, spoken in channel.spoken.items():
            keys = [put_message(messages, channel.name, each) for each in spoken]
            if keys:
                described[channel.name]["messages"] |= references("components/messages", keys)
                operations[action + channel.name[:1].upper() + channel.name[1:]] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{channel.name}"},
                    "messages": list(
                        references(f"channels/{channel.name}/messages", keys).values()
                    ),
                }
    security = list(references("components/securitySchemes", security_schemes).values())
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


def references(place: str, keys: Iterable[str]) -> dict[str, Any]:
    """For each key a reference to what stands under it at a place of the document."""
    return {key: {"$ref": f"#/{place}/{key}"} for key in keys}


def free_name(name: str, taken: Container[str]) -> str:
    """The name, or the first of ``name2``, ``name3`` and so on that nobody has."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}{number}"
    return free


def channels_of(routes: Iterable[WebSocketRoute]) -> Iterator[Channel]:
    """The routes as channels, each with a name of its own."""
    taken: set[str] = set()
    for route in routes:
        owner = route.resource_class
        name = owner.__name__.removesuffix("Resource") or owner.__name__
        name = free_name(NOT_IN_A_KEY.sub("_", name[:1].lower() + name[1:]), taken)
        taken.add(name)
        contract = route.contract
        spoken = {"receive": list(received_of(contract)), "send": list(sent_of(contract))}
        yield Channel(name, route, contract, spoken)


def received_of(contract: Contract) -> Iterator[Spoken]:
    """What clients may say, in the handlers' words or else in the payloads'."""
    for message_type, handler in contract.handlers.by_type.items():
        payload_type = contract.handlers.payload_types[message_type]
        summary = first_paragraph(handler)
        is_struct = isinstance(payload_type, type) and issubclass(payload_type, msgspec.Struct)
        if not summary and is_struct:
            summary = first_paragraph(payload_type)
        yield Spoken(message_type, payload_type, not may_be_missing(payload_type), summary)
    if contract.handlers.binary is not None:
        yield Spoken("clientBinary", bytes, True, first_paragraph(contract.handlers.binary))


def sent_of(contract: Contract) -> Iterator[Spoken]:
    """What clients are told, in the messages' own words."""
    for message_type, message_class in contract.sends.items():
        summary = first_paragraph(message_class)
        payload_type = payload_struct(message_class)
        yield Spoken(message_type, payload_type, True, summary, contract.has_positions)
    if contract.sends_binary:
        yield Spoken("serverBinary", bytes, True, "")


@functools.cache
def payload_struct(message_class: type[Message]) -> type[msgspec.Struct]:
    """A struct of the fields of a message, which are its payload, without the type."""
    fields: list[tuple[str, Any, Any]] = []
    for each in msgspec.structs.fields(message_class):
        options: dict[str, Any] = {"name": each.encode_name}
        if each.default is not msgspec.NODEFAULT:
            options["default"] = each.default
        if each.default_factory is not msgspec.NODEFAULT:
            options["default_factory"] = each.default_factory
        fields.append((each.name, each.type, msgspec.field(**options)))
    # NOTE: the module is part of its name where two have the same, as when the message itself stands
    #   inside another one.
    module = f"{message_class.__module__}.payloads"
    return msgspec.defstruct(message_class.__name__, fields, module=module, kw_only=True)


def set_schemas(spoken: Iterable[Spoken]) -> dict[str, Any]:
    """Give each message the schema of its payload; return the schemas to which these refer.

    Raises:
        RegistrationError: A payload has no schema.
    """
    typed = [each for each in spoken if each.payload_type is not bytes]
    try:
        schemas, shared = schemas_of([each.payload_type for each in typed])
    except TypeError as error:
        raise RegistrationError(f"a payload cannot be described: {error}") from error
    for each, schema in zip(typed, schemas, strict=True):
        each.schema = schema
    return shared


def put_message(messages: dict[str, Any], channel: str, spoken: Spoken) -> str:
    """Put a message among those of all channels; return its key. Channels that agree on it share it."""
    message = describe_message(spoken)
    key = NOT_IN_A_KEY.sub("_", spoken.name)
    if messages.setdefault(key, message) != message:
        key = free_name(f"{channel}.{key}", messages)
        messages[key] = message
    return key


def describe_message(spoken: Spoken) -> dict[str, Any]:
    """A Message Object: the whole envelope.

    Raises:
        RegistrationError: No example of it can be made that fits.
    """
    message: dict[str, Any] = {"name": spoken.name}
    if spoken.summary:
        message["summary"] = spoken.summary
    if spoken.payload_type is bytes:
        return {
            **message,
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "format": "binary"},
        }
    example = {"type": spoken.name}
    try:
        payload = example_of(spoken.payload_type)
    except ValueError as error:
        raise RegistrationError(
            f"{spoken.name!r} needs an example: {error}: give the field one that fits, as in"
            " Annotated[str, msgspec.Meta(pattern=..., examples=[...])]"
        ) from error
    if spoken.required or payload:
        example["payload"] = payload
    properties = {"type": {"const": spoken.name}, "payload": spoken.schema}
    if spoken.has_position:
        properties["id"] = POSITION
    return {
        **message,
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": ["type", "payload"] if spoken.required else ["type"],
            "properties": properties,
        },
        "examples": [{"payload": example}],
    }


def describe_channel(channel: Channel, servers: Iterable[str]) -> dict[str, Any]:
    """A Channel Object, still without messages."""
    owner, template = channel.route.resource_class, channel.route.uri_template
    return {
        "address": TEMPLATE_FIELD.sub(r"{\1}", template),
        "title": owner.__name__.removesuffix("Resource"),
        "description": " ".join(filter(None, (first_paragraph(owner), ENVELOPE))),
        "servers": list(references("servers", servers).values()),
        "parameters": {
            name: describe_parameter(owner, name) for name in TEMPLATE_FIELD.findall(template)
        },
        "bindings": {"ws": {"method": "GET"}},
        "x-close-codes": {str(code): text for code, text in channel.contract.closes.items()},
        "messages": {},
    }


def describe_parameter(owner: type, name: str) -> dict[str, Any]:
    """A Parameter Object, from the ``msgspec.Meta`` of the parameter of ``on_connect``."""
    try:
        hints = get_type_hints(owner.on_connect, include_extras=True)  # type: ignore[attr-defined]
    except NameError:  # imported for type checkers only
        return {}
    described: dict[str, Any] = {}
    for meta in getattr(hints.get(name), "__metadata__", ()):
        if isinstance(meta, msgspec.Meta):
            if meta.description:
                described["description"] = meta.description
            if meta.examples:
                described["examples"] = [str(each) for each in meta.examples]
    return described

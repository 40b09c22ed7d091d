"""TypeScript types of the messages in an AsyncAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .json_schema import REFERENCE

IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
SIDES = {"receive": "Client", "send": "Server"}
ERROR = "serverError"
JOIN = "clientJoin"

# Names that realtime.d.ts declares, or uses from TypeScript.
RESERVED = frozenset(
    """
    Array ClientMessages ConnectionState ConnectionStatus Error PayloadArguments Promise RealtimeClient
    RealtimeOptions RealtimeRoom Record Replies Reply RequestArguments RequestError RequestOptions ServerMessages URL WebSocket
    """.split()  # noqa: SIM905 - a list would be a screenful
)


def message_types(document: Mapping[str, Any]) -> str:
    """Return declarations of the payloads of all JSON messages, for each direction.

    A channel ``chatRoom`` gives ``ChatRoomClientMessages`` and ``ChatRoomServerMessages``, which
    map message types to payloads, and ``ChatRoomReplies``, which maps the types of requests to those of
    their replies. ``ClientMessages``, ``ServerMessages`` and ``Replies`` join all channels.

    Args:
        document: The result of :func:`falcon_pachinko.schema.asyncapi.describe`.
    """
    parts = [
        f"{comment(schema)}export {declare(type_name(name), schema)}"
        for name, schema in document["components"]["schemas"].items()
    ]
    for action, side in SIDES.items():
        names = []
        known: set[str] = set()
        for channel, described in document["channels"].items():
            names.append(f"{interface_name(channel)}{side}Messages")
            fields = message_fields(document, channel, action)
            own, summary = list(fields.values()), f"`{described['address']}`"
            if JOIN in described["messages"]:
                own = [text for name, text in fields.items() if name not in known]
                summary += ": the messages besides those of its rooms."
            known |= fields.keys()
            parts.append(f"/** {summary} */\nexport interface {names[-1]} {{\n{''.join(own)}}}\n")
        parts.append(
            f"export type {side}Messages = {' & '.join(names) or 'Record<string, never>'};\n"
        )
    merged: dict[str, list[str]] = {}
    for channel, described in document["channels"].items():
        replies = reply_types(document, channel)
        for request, types in replies.items():
            merged[request] = list(dict.fromkeys((*merged.get(request, ()), *types)))
        parts.append(
            f"/** The types of the replies in `{described['address']}`. */\n"
            f"export interface {interface_name(channel)}Replies"
            f" {{\n{''.join(reply_members(replies))}}}\n"
        )
    members = "".join(reply_members(merged))
    parts.append(f"export interface Replies {{\n{members}}}\n")
    return "\n".join(parts)


def reply_types(document: Mapping[str, Any], channel: str) -> dict[str, list[str]]:
    """Return the types of the replies that each request of a channel may have, but for the error."""
    messages = document["components"]["messages"]
    found = {}
    for operation in operations_of(document, channel):
        if "reply" not in operation:
            continue
        replies = [messages[name_of(each)]["name"] for each in operation["reply"]["messages"]]
        for reference in operation["messages"]:
            found[messages[name_of(reference)]["name"]] = [r for r in replies if r != ERROR]
    return found


def reply_members(replies: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield a member for each request with the types of its replies."""
    for request, types in replies.items():
        yield f"  {key_of(request)}: {' | '.join(json.dumps(each) for each in types) or 'never'};\n"


def operations_of(document: Mapping[str, Any], channel: str) -> Iterator[Mapping[str, Any]]:
    """Yield the operations of a channel."""
    for operation in document["operations"].values():
        if name_of(operation["channel"]) == channel:
            yield operation


def name_of(reference: Mapping[str, str]) -> str:
    """Return the key of what a Reference Object refers to."""
    return reference["$ref"].rpartition("/")[2]


def message_fields(document: Mapping[str, Any], channel: str, action: str) -> dict[str, str]:
    """Return a member for each JSON message of one direction of a channel, by the message type."""
    found: dict[str, str] = {}
    messages = document["components"]["messages"]
    for operation in operations_of(document, channel):
        if operation["action"] != action:
            continue
        for reference in operation["messages"]:
            message = messages[name_of(reference)]
            if "properties" in message["payload"]:
                payload = message["payload"]["properties"]["payload"]
                summary = comment({"description": message.get("summary", "")}, "  ")
                member = f"  {key_of(message['name'])}: {type_of(payload, '  ')};\n"
                found[message["name"]] = summary + member
    return found


def declare(name: str, schema: Mapping[str, Any]) -> str:
    """Return a declaration of a schema under a name."""
    declared = type_of(schema, "")
    if declared.startswith("{"):
        return f"interface {name} {declared}\n"
    return f"type {name} = {declared};\n"


def type_of(schema: Any, indent: str) -> str:
    """Return the TypeScript type of a schema."""
    if "$ref" in schema:
        return type_name(schema["$ref"].removeprefix(REFERENCE))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in values)
    for key, operator in (("anyOf", " | "), ("oneOf", " | "), ("allOf", " & ")):
        if key in schema:
            return operator.join(dict.fromkeys(type_of(each, indent) for each in schema[key]))
    match schema.get("type"):
        case "object":
            return object_type(schema, indent)
        case "array" if isinstance(schema.get("items"), list):
            required = schema.get("minItems", 0)
            items = [
                type_of(each, indent) if index < required else f"({type_of(each, indent)})?"
                for index, each in enumerate(schema["items"])
            ]
            return f"[{', '.join(items)}]"
        case "array":
            return f"Array<{type_of(schema.get('items', {}), indent)}>"
        case "integer" | "number":
            return "number"
        case "string" | "boolean" | "null" as primitive:
            return str(primitive)
    return "unknown"


def object_type(schema: Mapping[str, Any], indent: str) -> str:
    """Return the type of an object, with named properties or as a record."""
    properties = schema.get("properties")
    if properties is None:
        values = schema.get("additionalProperties", {})
        return (
            f"Record<string, {type_of(values, indent) if isinstance(values, dict) else 'unknown'}>"
        )
    inner = indent + "  "
    required = schema.get("required", ())
    fields = "".join(
        f"{comment(each, inner)}{inner}{key_of(name)}{'' if name in required else '?'}:"
        f" {type_of(each, inner)};\n"
        for name, each in properties.items()
    )
    return f"{{\n{fields}{indent}}}" if fields else "Record<string, never>"


def comment(schema: Mapping[str, Any], indent: str = "") -> str:
    """Return the description of a schema as a comment line, if it has one."""
    text = " ".join(str(schema.get("description", "")).split()).replace("*/", "*\\/")
    return f"{indent}/** {text} */\n" if text else ""


def key_of(name: str) -> str:
    """Return a name as a property key, quoted unless it is an identifier."""
    return name if IDENTIFIER.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def interface_name(channel: str) -> str:
    """Return the start of the names of a channel's interfaces."""
    return channel[:1].upper() + type_name(channel[1:])


def type_name(name: str) -> str:
    """Return a valid type name that is not reserved."""
    name = re.sub(r"[^\w$]", "_", name, flags=re.ASCII)
    return f"{name}_" if name in RESERVED else name

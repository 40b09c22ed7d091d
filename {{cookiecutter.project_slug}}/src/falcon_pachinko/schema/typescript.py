"""TypeScript types of the messages that an AsyncAPI document describes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .json_schema import REFERENCE

IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
SIDES = {"receive": "Client", "send": "Server"}

# What realtime.d.ts declares itself, or takes from TypeScript.
TAKEN = frozenset(
    """
    Array ClientMessages ConnectionState ConnectionStatus PayloadArguments RealtimeClient RealtimeOptions
    Record ServerMessages URL WebSocket
    """.split()  # noqa: SIM905 - a list would be a screenful
)


def message_types(document: Mapping[str, Any]) -> str:
    """Declare the payloads of all JSON messages, each way.

    For a channel ``chatRoom`` there are ``ChatRoomClientMessages`` and ``ChatRoomServerMessages``: the
    payload of each type of message. ``ClientMessages`` and ``ServerMessages`` are those of all channels.

    Args:
        document: As :func:`falcon_pachinko.asyncapi.describe` makes it.
    """
    parts = [
        f"{comment(schema)}export {declare(type_name(name), schema)}"
        for name, schema in document["components"]["schemas"].items()
    ]
    for action, side in SIDES.items():
        names = []
        for channel, described in document["channels"].items():
            names.append(f"{channel[:1].upper()}{type_name(channel[1:])}{side}Messages")
            fields = "".join(message_fields(document, channel, action))
            parts.append(
                f"/** `{described['address']}` */\nexport interface {names[-1]} {{\n{fields}}}\n"
            )
        parts.append(
            f"export type {side}Messages = {' & '.join(names) or 'Record<string, never>'};\n"
        )
    return "\n".join(parts)


def message_fields(document: Mapping[str, Any], channel: str, action: str) -> Iterator[str]:
    """A line for each JSON message of one side of a channel."""
    messages = document["components"]["messages"]
    for operation in document["operations"].values():
        here = operation["channel"]["$ref"] == f"#/channels/{channel}"
        for reference in operation["messages"] if here and operation["action"] == action else ():
            message = messages[reference["$ref"].rpartition("/")[2]]
            if "properties" in message["payload"]:
                payload = message["payload"]["properties"]["payload"]
                yield f"{comment({'description': message.get('summary', '')}, '  ')}"
                yield f"  {key_of(message['name'])}: {type_of(payload, '  ')};\n"


def declare(name: str, schema: Mapping[str, Any]) -> str:
    """A name for a schema."""
    written = type_of(schema, "")
    if written.startswith("{"):
        return f"interface {name} {written}\n"
    return f"type {name} = {written};\n"


def type_of(schema: Any, indent: str) -> str:
    """A schema as a type."""
    if "$ref" in schema:
        return type_name(schema["$ref"].removeprefix(REFERENCE))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in values)
    for key, sign in (("anyOf", " | "), ("oneOf", " | "), ("allOf", " & ")):
        if key in schema:
            return sign.join(dict.fromkeys(type_of(each, indent) for each in schema[key]))
    match schema.get("type"):
        case "object":
            return object_type(schema, indent)
        case "array" if isinstance(schema.get("items"), list):
            least = schema.get("minItems", 0)
            items = [
                type_of(each, indent) if index < least else f"({type_of(each, indent)})?"
                for index, each in enumerate(schema["items"])
            ]
            return f"[{', '.join(items)}]"
        case "array":
            return f"Array<{type_of(schema.get('items', {}), indent)}>"
        case "integer" | "number":
            return "number"
        case "string" | "boolean" | "null" as same:
            return str(same)
    return "unknown"


def object_type(schema: Mapping[str, Any], indent: str) -> str:
    """An object with named fields, or with any."""
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
    """What a schema is for, as a comment of its own line."""
    words = " ".join(str(schema.get("description", "")).split()).replace("*/", "*\\/")
    return f"{indent}/** {words} */\n" if words else ""


def key_of(name: str) -> str:
    """A name as a key, quoted where it has to be."""
    return name if IDENTIFIER.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def type_name(name: str) -> str:
    """A name that a type may have, and nothing else has."""
    name = re.sub(r"[^\w$]", "_", name, flags=re.ASCII)
    return f"{name}_" if name in TAKEN else name

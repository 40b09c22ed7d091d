"""JSON Schemas of payload types, in the draft that AsyncAPI uses."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable
from typing import Any

import msgspec

REFERENCE = "#/components/schemas/"


class Types:
    """Types as the key of a cache: equal if each is the same object.

    Classes of the same name differ. An annotation that has no hash, such as one with a list of examples, is a key too.
    """

    __slots__ = ("types",)

    def __init__(self, types: Iterable[Any]) -> None:
        self.types = tuple(types)

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.types)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Types) and [*map(id, self.types)] == [*map(id, other.types)]


def schemas_of(types: Iterable[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the schema of each type, and the schemas that they refer to by name.

    The result is the caller's own; the work is done once for the same types.

    Raises:
        TypeError: msgspec has no schema for a type, or two types share a qualified name.
    """
    each, shared = components_of(Types(types))
    return [draft_07(schema) for schema in each], {
        name: draft_07(schema) for name, schema in sorted(shared.items())
    }


@functools.lru_cache(maxsize=4)
def components_of(types: Types) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """Return msgspec's schemas, which must not be changed.

    Raises:
        TypeError: msgspec has no schema for a type, or two types share a qualified name.
    """
    try:
        return msgspec.json.schema_components(
            types.types, schema_hook=schema_of_object, ref_template=REFERENCE + "{name}"
        )
    except KeyError as error:
        raise TypeError(f"two classes share the module and name {error}") from None


def schema_of_object(each: type) -> dict[str, Any]:
    """Return the schema of ``object``, which any value fits; msgspec decodes it, but has no schema for it."""
    if each is not object:
        raise NotImplementedError
    return {"description": "Any value."}  # msgspec takes an empty schema for a missing one


def draft_07(schema: Any) -> Any:
    """Return a copy of msgspec's schema (JSON Schema 2020-12) in draft 07, the base of AsyncAPI's own."""
    if isinstance(schema, list):
        return [draft_07(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    converted: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "prefixItems":
            converted["items"] = draft_07(value)
        elif key == "items" and "prefixItems" in schema:
            converted["additionalItems"] = draft_07(value)
        elif key == "description":
            converted[key] = value.replace("``", "`")  # reStructuredText in docstrings
        elif key in ("default", "examples", "enum"):
            converted[key] = copy.deepcopy(value)  # data, not a schema
        elif key == "properties":
            converted[key] = {name: draft_07(each) for name, each in value.items()}
        elif key != "discriminator":  # an OpenAPI keyword; the schemas contain the tags
            converted[key] = draft_07(value)
    return converted

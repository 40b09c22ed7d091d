"""JSON Schema of what goes over the wire, in the dialect that AsyncAPI reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

REFERENCE = "#/components/schemas/"


def schemas_of(types: Iterable[Any]) -> tuple[list[Any], dict[str, Any]]:
    """The schema of each type, and the schemas to which they refer by their names.

    Raises:
        TypeError: msgspec has no schema for a type, or two types have one name.
    """
    try:
        each, shared = msgspec.json.schema_components(types, ref_template=REFERENCE + "{name}")
    except KeyError as error:
        raise TypeError(f"two classes have the module and the name of {error}") from None
    return [draft_07(schema) for schema in each], {
        name: draft_07(schema) for name, schema in sorted(shared.items())
    }


def draft_07(schema: Any) -> Any:
    """Say in JSON Schema draft 07, which AsyncAPI's own is made of, what msgspec says in 2020-12."""
    if isinstance(schema, list):
        return [draft_07(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    said: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "prefixItems":
            said["items"] = draft_07(value)
        elif key == "items" and "prefixItems" in schema:
            said["additionalItems"] = value
        elif key == "description":
            said[key] = value.replace("``", "`")  # as in docstrings
        elif key in ("default", "examples", "enum"):
            said[key] = value  # data, whatever it looks like
        elif key == "properties":
            said[key] = {name: draft_07(each) for name, each in value.items()}
        elif key != "discriminator":  # OpenAPI's; the tags are in the schemas themselves
            said[key] = draft_07(value)
    return said

"""What makes a document a good one: AsyncAPI's own schema, and references that lead somewhere.

The schema lies in the folder beside this file as the AsyncAPI Initiative publishes it (npm
``@asyncapi/specs`` 6.11.1, Apache License 2.0), but for a newline at the end.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

OFFICIAL = Path(__file__).parent / "asyncapi_schema" / "3.0.0.json"


def problems_of(document: dict[str, Any]) -> list[str]:
    """What is wrong with a document, one line each."""
    validator = Draft7Validator(json.loads(OFFICIAL.read_text(encoding="utf-8")))
    found = []
    for error in validator.iter_errors(document):
        cause = best_match([error]) or error
        found.append(f"{cause.json_path}: {cause.message}")
    for reference in references_in(document):
        if not leads_somewhere(document, reference):
            found.append(f"nothing is at {reference}")
    for name, message in document["components"]["messages"].items():
        schema = {**message["payload"], "components": document["components"]}
        for example in message.get("examples", ()):
            errors = Draft7Validator(schema).iter_errors(example["payload"])
            found += [f"example of {name}: {error.message}" for error in errors]
    return found


def references_in(node: Any) -> Iterator[str]:
    """Every reference, wherever it is."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from references_in(value)


def leads_somewhere(document: Any, reference: str) -> bool:
    """Whether something is at the place that a reference names (RFC 6901)."""
    if not reference.startswith("#/"):
        return False
    place = document
    for part in reference.removeprefix("#/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(place, dict) or key not in place:
            return False
        place = place[key]
    return True


def as_json(document: dict[str, Any]) -> dict[str, Any]:
    """The document as who reads its JSON sees it."""
    read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return read

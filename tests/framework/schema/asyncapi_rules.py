"""Validation of AsyncAPI documents: the official schema, references and examples.

The schema in ``asyncapi_schema/`` is the one of the AsyncAPI Initiative (npm ``@asyncapi/specs``
6.11.1, Apache License 2.0), with a newline added at the end.
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
    """Return the errors of a document, one line each."""
    validator = Draft7Validator(json.loads(OFFICIAL.read_text(encoding="utf-8")))
    found = []
    for error in validator.iter_errors(document):
        cause = best_match([error]) or error
        found.append(f"{cause.json_path}: {cause.message}")
    for reference in references_in(document):
        if not resolves(document, reference):
            found.append(f"nothing is at {reference}")
    for name, message in document["components"]["messages"].items():
        schema = {**message["payload"], "components": document["components"]}
        for example in message.get("examples", ()):
            errors = Draft7Validator(schema).iter_errors(example["payload"])
            found += [f"example of {name}: {error.message}" for error in errors]
    return found


def references_in(node: Any) -> Iterator[str]:
    """Yield every reference in a document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from references_in(value)


def resolves(document: Any, reference: str) -> bool:
    """Return whether a reference points into the document (RFC 6901)."""
    if not reference.startswith("#/"):
        return False
    node = document
    for part in reference.removeprefix("#/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def as_json(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document after a round trip through JSON."""
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return decoded

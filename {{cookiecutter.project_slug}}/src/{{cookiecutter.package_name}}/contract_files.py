"""Writes what others read of the contract: ``asyncapi.yaml`` and the types of the web client.

``make asyncapi`` runs it. The service itself does without it, and without PyYAML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from falcon_pachinko.schema import typescript

from .app import create_app
from .contract import describe
from .settings import Settings

PROJECT = Path(__file__).parents[2]
DOCUMENT = PROJECT / "asyncapi.yaml"
TYPES = Path(__file__).parent / "web" / "realtime.d.ts"

DOCUMENT_HEADER = "# Made by `make asyncapi` of what the program says; make changes there.\n"
TYPES_HEADER = "// --- Made by `make asyncapi` from here on: make changes in messages.py. ---\n"


class Dumper(yaml.SafeDumper):
    """Writes what is there twice twice, for people."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def outdated() -> dict[Path, str]:
    """The files that do not say what the program says, with what they should hold.

    That is what the default settings give, whatever is set here and now.
    """
    settings = Settings.model_construct()
    document = describe(create_app(settings), settings)
    found = {}
    if not DOCUMENT.exists() or yaml.safe_load(DOCUMENT.read_text("utf-8")) != document:
        found[DOCUMENT] = as_yaml(document)
    types = TYPES.read_text("utf-8")
    if (wanted := with_types(types, document)) != types:
        found[TYPES] = wanted
    return found


def as_yaml(document: dict[str, Any]) -> str:
    """The document for people and for version control."""
    return DOCUMENT_HEADER + yaml.dump(
        document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100
    )


def with_types(declarations: str, document: dict[str, Any]) -> str:
    """The declarations of the web client, with the types of the messages as they are now."""
    own, _, _ = declarations.partition(TYPES_HEADER)
    return f"{own}{TYPES_HEADER}\n{typescript.message_types(document)}"


def main() -> None:
    """Write the files that are out of date, and say which."""
    for path, text in outdated().items():
        path.write_text(text, "utf-8")
        print(f"wrote {path.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()

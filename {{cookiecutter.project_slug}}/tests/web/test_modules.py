"""The modules of the chat page: each owns its state, and they depend on each other in one direction."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

FOLDER = next(Path(__file__).parents[2].glob("src/*/web/chat"))
MODULES = sorted(FOLDER.glob("*.js"))

# Module-level variables, and exports that are neither a function nor a class.
SHARED_STATE = re.compile(
    r"^(?:(?:export )?(?:let|var)\b|export (?!(?:async )?function\b|class\b)).*", re.M
)
CLASS_BODY = re.compile(r"^export class \w+ {\n(.*?)^}", re.M | re.S)
PUBLIC_FIELD = re.compile(r"^  (?:static )?\w+(?: =.*|;)$", re.M)
IMPORT = re.compile(r'^import .* from "\./([\w.-]+)";$', re.M)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_state_is_changed_by_its_owner_only(module: Path) -> None:
    # JavaScript itself enforces that imported names are read-only and private fields stay in their class.
    source = module.read_text(encoding="utf-8")
    assert SHARED_STATE.findall(source) == []
    bodies = CLASS_BODY.findall(source)
    assert [field for body in bodies for field in PUBLIC_FIELD.findall(body)] == []


def test_imports_have_no_cycle() -> None:
    imports = {path.name: IMPORT.findall(path.read_text(encoding="utf-8")) for path in MODULES}
    order = list(TopologicalSorter(imports).static_order())
    assert sorted(order) == sorted(imports)
    assert order[-1] == "main.js"

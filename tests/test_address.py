"""The address of the repository is a placeholder that one command sets everywhere."""

import re
import shutil
from pathlib import Path

import pytest

from tools.address import address, set_address


def documents(root: Path) -> list[Path]:
    return [root / "README.md", *(root / "docs").rglob("*.md")]


def test_all_documents_name_the_declared_address(root: Path) -> None:
    named = [
        found
        for path in documents(root)
        for found in re.findall(r"\bgh:([\w./-]+[\w-])", path.read_text("utf-8"))
    ]
    assert len(named) >= 3
    assert set(named) == {address(root)}


def test_one_command_sets_the_address(root: Path, tmp_path: Path) -> None:
    for path in (root / "pyproject.toml", *documents(root)):
        copy = tmp_path / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    changed = set_address("acme/chat.template", tmp_path)
    assert tmp_path / "pyproject.toml" in changed
    assert tmp_path / "README.md" in changed
    assert address(tmp_path) == "acme/chat.template"
    readme = (tmp_path / "README.md").read_text("utf-8")
    assert "gh:acme/chat.template" in readme
    assert "https://github.com/acme/chat.template" in readme
    assert not [
        path for path in documents(tmp_path) if f":{address(root)}" in path.read_text("utf-8")
    ]


@pytest.mark.parametrize("wrong", ["", "acme", "https://github.com/acme/x", "a b/c"])
def test_a_wrong_address_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ValueError, match="is not OWNER/REPOSITORY"):
        set_address(wrong, tmp_path)

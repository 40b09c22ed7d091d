"""Each version of a tool stands in one place: pyproject.toml."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]


def test_commit_hooks_run_the_tools_of_the_environment() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    [repository] = yaml.safe_load(text)["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert "additional_dependencies" not in hook, hook["id"]
        python, option, module, *_ = hook["entry"].split()
        assert (python, option) == (".venv/bin/python", "-m")
        assert importlib.util.find_spec(module), module

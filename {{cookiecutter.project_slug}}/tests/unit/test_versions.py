"""Versions of tools agree in all files."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]


def test_commit_hooks_use_the_declared_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {*project["dependencies"], *project["optional-dependencies"]["dev"]}
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    [repository] = yaml.safe_load(text)["repos"]
    for hook in repository["hooks"]:
        assert set(hook["additional_dependencies"]) <= declared, hook["id"]

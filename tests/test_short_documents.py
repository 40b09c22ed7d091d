"""Documents that are read first are short, and name only what exists."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .test_commands import TARGETS

MODULE = re.compile(r"(?:\$\(RUN\)|python -m) ([\w.]+)")


@pytest.fixture
def project(baked: Callable[..., Path]) -> Path:
    return baked()


def line_count(path: Path) -> int:
    return path.read_text("utf-8").count("\n")


def test_the_first_pages_fit_on_few_screens(root: Path, project: Path) -> None:
    lines = {
        "the template's README": (line_count(root / "README.md"), 80),
        "a project's README": (line_count(project / "README.md"), 150),
        "a project's AGENTS.md": (line_count(project / "AGENTS.md"), 60),
    }
    assert {name: count for name, (count, bound) in lines.items() if count > bound} == {}


@pytest.mark.parametrize("document", ["the template", "a project"])
def test_a_readme_begins_with_two_commands(root: Path, project: Path, document: str) -> None:
    folder = root if document == "the template" else project
    text = (folder / "README.md").read_text("utf-8")
    first = text.partition("```sh\n")[2].partition("```")[0]
    assert [line.partition("#")[0].strip() for line in first.splitlines()] == [
        "make run",
        "make test",
    ]


@pytest.mark.parametrize("answers", [{}, {"package_name": "zzz_late", "resource_name": "Lobby"}])
def test_every_path_and_target_in_the_instructions_for_agents_exists(
    baked: Callable[..., Path], answers: dict[str, str]
) -> None:
    project = baked(**answers)
    text = (project / "AGENTS.md").read_text("utf-8")
    code = re.findall(r"`([^`]+)`", text)
    paths = {each for each in code if re.fullmatch(r"[\w./-]+(/[\w.-]+|[.](md|yaml|toml))", each)}
    assert len(paths) > 15
    assert {each for each in paths if not (project / each).exists()} == set()
    targets = {each.removeprefix("make ") for each in code if each.startswith("make ")}
    assert len(targets) > 4
    assert targets <= set(TARGETS["project"].split())


def test_every_target_is_also_shown_without_make(project: Path) -> None:
    text = (project / "CONTRIBUTING.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `make ([a-z]+)` \| (.+) \|$", text, re.MULTILINE))
    assert rows.keys() == set(TARGETS["project"].split()) - {"help"}
    makefile = (project / "Makefile").read_text("utf-8")
    recipes = dict(re.findall(r"^([a-z]+):.*?## .*\n((?:\t.*\n)+)", makefile, re.MULTILINE))
    for target, row in rows.items():
        modules = set(MODULE.findall(recipes[target]))
        assert modules <= set(MODULE.findall(row)), f"make {target}: {recipes[target]}"
    assert "pytest" in MODULE.findall(recipes["test"])

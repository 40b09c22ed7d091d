"""docs/security.md of a project: each guarantee has a test, and each figure is the default."""

import functools
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest

from falcon_pachinko import Limits, ServerLimits
from falcon_pachinko.presence import PresenceBatch

from .support.documents import settings_of

PROJECT = "{{cookiecutter.project_slug}}"
UNITS = {"": 1, "s": 1, "KiB": 1024, "MiB": 1024 * 1024}
DEFAULTS = {
    **{field.name: field.default for kind in (Limits, ServerLimits) for field in fields(kind)},
    "PresenceBatch.above": PresenceBatch().above,
}


class Guarantee(NamedTuple):
    attack: str
    bound: str
    figure: str
    tests: str


@pytest.fixture
def page(root: Path) -> str:
    return (root / PROJECT / "docs/security.md").read_text("utf-8")


def guarantees(page: str) -> list[Guarantee]:
    """Return the rows of the table of guarantees."""
    section = page.partition("## Guarantees")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == ["attack", "bound", "figure", "test"]
    return [Guarantee(*row) for row in rows[2:]]


def figures(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the number and the unit of each figure."""
    for row in guarantees(page):
        yield from re.findall(r"`([\w.]+)` ([^ ,]\S*?)(?: (KiB|MiB|s))?(?:[,;] |$)", row.figure)


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of the test functions of a file; those of a project contain Jinja."""
    text = path.read_text("utf-8")
    return frozenset(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE))


def test_every_named_test_exists(root: Path, page: str) -> None:
    named = [test for row in guarantees(page) for test in re.findall(r"`([^`]+)`", row.tests)]
    assert len(named) > 20
    missing = []
    for test in named:
        path, _, name = test.partition("::")
        files = [folder / path for folder in (root, root / PROJECT)]
        found = [file for file in files if file.is_file() and name in names_in(file)]
        if len(found) != 1:
            missing.append(test)
    assert not missing


def test_every_guarantee_has_a_bound_a_figure_and_a_test(page: str) -> None:
    rows = guarantees(page)
    assert len({row.attack for row in rows}) == len(rows) > 20
    assert [row.attack for row in rows if not (row.bound and row.figure)] == []
    assert [row.attack for row in rows if "::" not in row.tests] == []


def test_every_figure_is_the_default(root: Path, page: str) -> None:
    settings = settings_of(root / PROJECT / "docs/settings.md")
    checked = set()
    for name, number, unit in figures(page):
        checked.add(name)
        if unit or not name.startswith("APP_"):
            default = int(settings[name]) if name.startswith("APP_") else DEFAULTS[name]
            assert int(number.replace(",", "")) * UNITS[unit] == default, name
        else:
            assert number.replace(",", "") == settings[name].replace(",", ""), name
    assert len(checked) > 15
    named = {name for row in guarantees(page) for name in re.findall(r"`([\w.]+)`", row.figure)}
    assert named == checked, "a figure follows its name, such as `head_bytes` 32 KiB"


def test_attacks_that_are_not_covered_are_listed(page: str) -> None:
    section = page.partition("## Not covered")[2]
    for attack in (
        "many addresses",
        "slow drip",
        "CPU of TLS",
        "without TLS",
        "compromised",
        "over Redis",
        "Redis cluster",
        "rooms that your own handlers join",
    ):
        assert attack in section


def test_both_repositories_explain_how_to_report(root: Path) -> None:
    for path in (root / "SECURITY.md", root / PROJECT / "SECURITY.md"):
        text = path.read_text("utf-8")
        for heading in ("## Report a vulnerability", "## Versions"):
            assert heading in text
        assert "docs/security.md" in text

"""Baked projects pass their own checks and tests, with nothing but what they declare."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BOUND_SECONDS = 900

Run = Callable[..., str]

FAR_FROM_DEFAULT = {
    "project_name": 'Ünï "quoted" 🎲 \\ {x}',
    "project_slug": "Odd.One_2",
    "package_name": "zzz_late",
    "description": "- yes: {it's} #odd",
    "author_name": "Ada 'Zoë' Ω",
    "author_email": " ",
    "resource_name": "GameTable",
    "websocket_path": "/live/v1.0/~tables",
    "room_prefix": "it's:",
    "license": "Proprietary",
}
OTHERS = [
    {"package_name": "a", "resource_name": "X", "websocket_path": "/x", "room_prefix": '""'},
    {
        "package_name": "a_package_with_a_name_of_some_fifty_characters_here",
        "resource_name": "On",
        "license": "Apache-2.0",
    },
]


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_project_with_the_defaults_passes_all(
    baked: Callable[..., Path], tmp_path: Path, run: Run
) -> None:
    project = baked().rename(tmp_path / "a folder with spaces")
    for target in ("install", "check", "test"):
        run(project, "make", target, f"PYTHON={sys.executable}")
    assert not (project / "uv.lock").exists()


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_project_far_from_the_defaults_passes_all(baked: Callable[..., Path], run: Run) -> None:
    project = baked(**FAR_FROM_DEFAULT)
    for target in ("install", "check", "test"):
        run(project, "make", target, f"PYTHON={sys.executable}")


@pytest.mark.timeout(BOUND_SECONDS / 2)
@pytest.mark.parametrize("answers", OTHERS, ids=["short names", "long names"])
def test_other_projects_pass_their_tests_in_an_environment_that_is_lent(
    baked: Callable[..., Path], run: Run, lent_python: Path, answers: dict[str, str]
) -> None:
    project = baked(**answers)
    source = project / "src"
    suite = ("tests/unit", "tests/integration", "tests/e2e")
    run(project, lent_python, "-m", "pytest", "-q", *suite, PYTHONPATH=source)
    run(project, lent_python, "-m", "mypy", PYTHONPATH=source)

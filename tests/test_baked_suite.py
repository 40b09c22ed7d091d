"""Baked projects pass their own checks and tests, with nothing but what they declare."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BOUND_SECONDS = 900

Run = Callable[..., str]

OTHERS = [
    {"package_name": "a", "resource_name": "X", "websocket_path": "/x", "room_prefix": '""'},
    {
        "package_name": "a_package_with_a_name_of_some_fifty_characters_here",
        "resource_name": "On",
        "license": "Apache-2.0",
    },
]


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_project_in_an_environment_of_its_own_passes_all(
    default_or_far: dict[str, str], baked: Callable[..., Path], tmp_path: Path, run: Run
) -> None:
    project = baked(**default_or_far).rename(tmp_path / "a folder with spaces")
    for target in ("install", "check", "test"):
        run(project, "make", target, f"PYTHON={sys.executable}")
    assert not (project / "uv.lock").exists()


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

"""Baked projects pass their own checks and tests, with nothing but what they declare."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BOUND_SECONDS = 1200

Run = Callable[..., str]


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_project_in_an_environment_of_its_own_passes_all(
    default_or_far: dict[str, str], baked: Callable[..., Path], tmp_path: Path, run: Run
) -> None:
    project = baked(**default_or_far).rename(tmp_path / "a folder with spaces")
    # NOTE: the framework and its tests are the same in all projects, to the byte, and take minutes.
    chosen = ["PYTEST_ADDOPTS=--ignore=tests/falcon_pachinko"] if default_or_far else []
    for target in ("install", "check", "test"):
        run(project, "make", target, f"PYTHON={sys.executable}", *chosen)
    assert not (project / "uv.lock").exists()

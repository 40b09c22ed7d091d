"""A baked project passes its own checks and tests, with nothing but what it declares."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BOUND_SECONDS = 900


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_baked_project_passes_its_checks_and_tests(
    baked: Callable[..., Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    project = baked().rename(tmp_path / "a folder with spaces")
    for target in ("install", "check", "test"):
        finished = subprocess.run(
            ["make", target, f"PYTHON={sys.executable}"],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BOUND_SECONDS / 2,
        )
        assert finished.returncode == 0, finished.stdout
    assert not (project / "uv.lock").exists()

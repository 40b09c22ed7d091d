"""Baked projects pass their own checks and tests, with only the packages that they declare.

All tests run in the project whose names are the hardest. With the defaults those run that need no server and
no database: they take a twentieth of the time. The tests in ``overlay/`` are added to the project before its
suite: those of the parts that a project does not change (``realtime.js``), and the screenshots of this
repository's documents.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ALLOWED_SKIPS, FAR_FROM_DEFAULT, REQUIRES_ALL, WITH_UV

BOUND_SECONDS = 2700

OVERLAY = Path(__file__).parent / "overlay"

Run = Callable[..., str]


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize(
    ("answers", "arguments"),
    [
        pytest.param({}, ("UV=", "install", "check", "quick"), id="the defaults"),
        pytest.param(FAR_FROM_DEFAULT, (WITH_UV, "install", "test"), id="far from them"),
        # With Playwright, mypy checks more.
        pytest.param(FAR_FROM_DEFAULT, (WITH_UV, "browser", "check"), id="in a browser"),
    ],
)
def test_a_project_passes_its_checks_and_tests_in_its_own_environment(
    answers: dict[str, str],
    arguments: tuple[str, ...],
    baked: Callable[..., Path],
    tmp_path: Path,
    run: Run,
) -> None:
    project = baked(**answers).rename(tmp_path / "a folder with spaces")
    required = os.environ.get(REQUIRES_ALL, "0")
    variables = {"REQUIRE_BROWSER": required, "REQUIRE_AXE": required}
    installer, *targets = arguments
    for target in targets:
        if target in ("quick", "test", "browser"):
            shutil.copytree(OVERLAY, project / "tests", dirs_exist_ok=True)
        printed = run(project, "make", installer, target, f"PYTHON={sys.executable}", **variables)
        if required == "1":
            skipped = [line for line in printed.splitlines() if line.startswith("SKIPPED")]
            assert all(any(each in line for each in ALLOWED_SKIPS) for line in skipped), skipped
    assert not (project / "uv.lock").exists()


@pytest.mark.slow
def test_the_framework_tests_of_a_project_pass_in_the_template(root: Path, run: Run) -> None:
    project = root / "{{cookiecutter.project_slug}}"
    run(
        project,
        # The conftest.py above needs a baked project.
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--confcutdir=tests/framework"),
        "tests/framework",
        PYTHONPATH=project / "src",
        PYTHONPYCACHEPREFIX=os.environ["PYTHONPYCACHEPREFIX"],
    )

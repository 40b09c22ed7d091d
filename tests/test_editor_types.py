"""A project has no finding of Pyright's standard mode, which editors show."""

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import FAR_FROM_DEFAULT

BOUND_SECONDS = 600
CHECKER = Path(sys.executable).with_name("basedpyright")


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.skipif(not CHECKER.exists(), reason="basedpyright is not installed")
def test_an_editor_shows_no_type_error_in_a_project(
    baked: Callable[..., Path], project_python: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    project = baked(**FAR_FROM_DEFAULT)
    declared = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    browser = declared["optional-dependencies"]["browser"]
    quietly = ("--quiet", "--disable-pip-version-check", "--target", tmp_path / "browser")
    run(tmp_path, project_python, "-m", "pip", "install", *quietly, *browser)
    # Where `make browser` has not installed it.
    settings = (project / "pyproject.toml").read_text("utf-8")
    paths = f'extraPaths = ["src", "{tmp_path / "browser"}"]'
    assert settings.count('extraPaths = ["src"]') == 1
    settings = settings.replace('extraPaths = ["src"]', paths)
    (project / "pyproject.toml").write_text(settings, "utf-8")
    (project / ".venv").symlink_to(project_python.parents[1])
    command = (CHECKER, "--pythonpath", project_python)
    assert "0 errors, 0 warnings" in run(project, *command)
    wrong = project / "src/zzz_late/wrong.py"
    wrong.write_text("import falcon\n\nSTATUS: int = falcon.HTTP_200\n", "utf-8")
    assert "reportAssignmentType" in run(project, *command, wrong, status=1)

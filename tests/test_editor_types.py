"""A project has no finding of Pyright's standard mode, which editors show."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import FAR_FROM_DEFAULT

BOUND_SECONDS = 600
CHECKER = Path(sys.executable).with_name("basedpyright")


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.skipif(not CHECKER.exists(), reason="basedpyright is not installed")
def test_an_editor_shows_no_type_error_in_a_project(
    baked: Callable[..., Path], project_python: Path, run: Callable[..., str]
) -> None:
    project = baked(**FAR_FROM_DEFAULT)
    # The option takes the place of the environment in .venv, which only `make install` creates.
    command = (CHECKER, "--pythonpath", project_python)
    assert "0 errors, 0 warnings" in run(project, *command)
    wrong = project / "src/zzz_late/wrong.py"
    wrong.write_text("import falcon\n\nSTATUS: int = falcon.HTTP_200\n", "utf-8")
    assert "reportAssignmentType" in run(project, *command, wrong, status=1)

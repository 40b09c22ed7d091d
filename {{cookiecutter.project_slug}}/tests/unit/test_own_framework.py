"""The check that the imported framework is this project's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from {{ cookiecutter.package_name }}.own_framework import (
    DISTRIBUTION,
    STARTUP_FAILURE,
)

pytestmark = pytest.mark.slow

PACKAGE = "{{ cookiecutter.package_name }}"
SOURCES = Path(__file__).parents[2] / "src"
START_SECONDS = 30
RECORD = "falcon_pachinko/MANIFEST,sha256=Wzl1ZRw8q5LQRMCW3DChwtlSVJdFdHLeSMUeyzY9H0o,3\n"


def imported(*folders: Path) -> subprocess.CompletedProcess[str]:
    """Import this package in a process of its own, with these folders first on the path."""
    return subprocess.run(
        [sys.executable, "-B", "-c", f"import {PACKAGE}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


def test_the_own_framework_is_accepted(tmp_path: Path) -> None:
    other = tmp_path / "falcon_pachinko"
    other.mkdir()
    (other / "__init__.py").touch()
    finished = imported(SOURCES, tmp_path)
    assert finished.returncode == 0, finished.stderr


def test_the_framework_of_another_project_is_refused_in_one_sentence(tmp_path: Path) -> None:
    other = tmp_path / "falcon_pachinko"
    other.mkdir()
    (other / "__init__.py").touch()
    finished = imported(tmp_path, SOURCES)
    assert finished.returncode == STARTUP_FAILURE
    assert f"falcon_pachinko in {tmp_path.resolve()} belongs to another project" in finished.stderr
    assert str(SOURCES.resolve()) in finished.stderr
    assert finished.stderr.count("\n") == 1, finished.stderr


def test_a_wheel_that_has_replaced_the_framework_is_noticed(tmp_path: Path) -> None:
    name = re.sub(r"[-_.]+", "_", DISTRIBUTION).lower()
    information = tmp_path / f"{name}-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.4\nName: x\n", "utf-8")
    (information / "RECORD").write_text(RECORD, "utf-8")
    for name in ("__init__.py", "own_framework.py"):
        (tmp_path / PACKAGE).mkdir(exist_ok=True)
        shutil.copy(SOURCES / PACKAGE / name, tmp_path / PACKAGE)
    manifest = tmp_path / "falcon_pachinko" / "MANIFEST"
    manifest.parent.mkdir()
    manifest.with_name("__init__.py").touch()
    manifest.write_text("own", "utf-8")
    same = imported(tmp_path)
    assert same.returncode == 0, same.stderr
    manifest.write_text("not", "utf-8")
    replaced = imported(tmp_path)
    assert replaced.returncode == STARTUP_FAILURE
    assert "install this one there" in replaced.stderr
    from_sources = imported(SOURCES, tmp_path)
    assert from_sources.returncode == 0, from_sources.stderr

"""The framework's manifest matches its files."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

TEMPLATE = "{{cookiecutter.project_slug}}"


def test_manifest_is_up_to_date(root: Path) -> None:
    package = root / TEMPLATE / "src" / "falcon_pachinko"
    # NOTE: a separate process with -B: imports in this one would leave bytecode in the template.
    finished = subprocess.run(
        [sys.executable, "-B", "-m", "tools.manifest", "--print"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert finished.returncode == 0, finished.stderr
    assert (package / "MANIFEST").read_text("utf-8") == finished.stdout, "run: make manifest"


def test_baked_project_verifies_its_framework(baked: Callable[..., Path]) -> None:
    command = [sys.executable, "-B", "-m", "falcon_pachinko", "verify"]
    finished = subprocess.run(
        command, cwd=baked() / "src", capture_output=True, text=True, timeout=50
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr

"""The manifest of the framework is true."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

TEMPLATE = "{{cookiecutter.project_slug}}"


def test_the_manifest_is_up_to_date(root: Path) -> None:
    package = root / TEMPLATE / "src" / "falcon_pachinko"
    # NOTE: in a process of its own and with -B, because what is imported there would leave its cache.
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


def test_a_baked_project_finds_its_framework_unchanged(baked: Callable[..., Path]) -> None:
    command = [sys.executable, "-B", "-m", "falcon_pachinko", "verify"]
    finished = subprocess.run(
        command, cwd=baked() / "src", capture_output=True, text=True, timeout=50
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr

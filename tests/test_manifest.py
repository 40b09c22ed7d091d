"""The manifest of the framework is true."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

TEMPLATE = "{{cookiecutter.project_slug}}"


def test_the_manifest_is_up_to_date(root: Path) -> None:
    package = root / TEMPLATE / "src" / "falcon_pachinko"
    sys.path.insert(0, str(package.parent))
    try:
        from tools.manifest import wanted
    finally:
        sys.path.pop(0)
    assert (package / "MANIFEST").read_text("utf-8") == wanted(package), "run: make manifest"


def test_a_baked_project_finds_its_framework_unchanged(baked: Callable[..., Path]) -> None:
    command = [sys.executable, "-B", "-m", "falcon_pachinko", "verify"]
    finished = subprocess.run(
        command, cwd=baked() / "src", capture_output=True, text=True, timeout=50
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr

"""Programs from npm: the parser of AsyncAPI, and the TypeScript compiler with its options."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

BOUND_SECONDS = 240
COMPILER_OPTIONS = {
    "strict": True,
    "noEmit": True,
    "allowJs": True,
    "checkJs": True,
    "target": "es2024",
    "module": "es2022",
    "moduleResolution": "bundler",
    "lib": ["dom", "dom.iterable", "es2024"],
    "types": [],
}


def install_packages(folder: Path, packages: Iterable[str]) -> Path:
    """Install packages into a folder, which is returned; skip the test without npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on PATH: install Node 20 or newer")
    (folder / "package.json").write_text('{"type": "module"}')
    run(folder, npm, "install", "--silent", "--no-package-lock", "--ignore-scripts", *packages)
    return folder


def run(folder: Path, *command: str) -> str:
    finished = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=BOUND_SECONDS
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout

"""Baking is reproducible: the same answers give the same project."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TEMPLATE = "{{cookiecutter.project_slug}}"
# The only file created by a hook, with the project's secret.
SECRET = ".env"


@pytest.fixture
def clone(root: Path, tmp_path: Path, run: Callable[..., str]) -> Path:
    """A clone of a repository with the tracked files of this one in their present state."""
    folder = tmp_path / "repository"
    for name in filter(None, run(root, "git", "ls-files", "-z").split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, folder / name)
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", "--all", "--force")
    run(folder, "git", "commit", "--quiet", "--no-verify", "-m", "all")
    run(tmp_path, "git", "clone", "--quiet", folder, tmp_path / "clone")
    return tmp_path / "clone"


def bake(template: Path, parent: Path, environment: dict[str, str], *options: str) -> Path:
    """Bake from the command line."""
    parent.mkdir(exist_ok=True)
    finished = subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(template), "-o", str(parent), *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    [project] = parent.iterdir()
    return project


def contents(project: Path) -> dict[str, tuple[int, bytes]]:
    """Return each file's mode and bytes, except for the secret."""
    return {
        path.relative_to(project).as_posix(): (path.stat().st_mode, path.read_bytes())
        for path in sorted(project.rglob("*"))
        if path.is_file() and path.name != SECRET
    }


def test_clone_and_working_tree_give_the_same_project(
    root: Path, clone: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    here = bake(root, tmp_path / "here", environment, "--no-input")
    there = bake(clone, tmp_path / "there", environment, "--no-input")
    assert contents(here) == contents(there)
    assert len(contents(here)) > 100
    assert (here / SECRET).read_bytes() != (there / SECRET).read_bytes()


def test_replay_gives_the_same_project(
    root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    answers = ('project_name=The "best" chat 😀', "resource_name=Lobby", "license=ISC")
    first = bake(root, tmp_path / "first", environment, "--no-input", *answers)
    assert first.name == "the-best-chat"
    [replay] = (Path(environment["HOME"]) / ".cookiecutter_replay").glob("*.json")
    recorded = json.loads(replay.read_text("utf-8"))["cookiecutter"]
    secret = (first / SECRET).read_text("ascii").rpartition("=")[2].strip()
    assert secret not in replay.read_text("utf-8")
    assert recorded["resource_name"] == "Lobby"
    again = bake(root, tmp_path / "again", environment, "--replay")
    assert contents(first) == contents(again)


def test_caches_in_the_template_are_not_copied(
    clone: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    plain = contents(bake(clone, tmp_path / "plain", environment, "--no-input"))
    used = clone / TEMPLATE
    for cache in ("src/falcon_pachinko/__pycache__", "tests/unit/__pycache__", ".ruff_cache/0.1"):
        (used / cache).mkdir(parents=True)
        (used / cache / "a.pyc").write_bytes(b"cached")
    assert contents(bake(clone, tmp_path / "used", environment, "--no-input")) == plain

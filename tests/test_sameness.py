"""The same answers give the same project, from wherever and however often it is baked."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TEMPLATE = "{{cookiecutter.project_slug}}"
# The only file that a hook makes, with a secret of the project's own.
SECRET = ".env"


@pytest.fixture
def clone(root: Path, tmp_path: Path, run: Callable[..., str]) -> Path:
    """A clone of a repository that has what this one has, as it is now."""
    folder = tmp_path / "repository"
    for name in filter(None, run(root, "git", "ls-files", "-z").split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, folder / name)
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", "--all", "--force")
    run(folder, "git", "commit", "--quiet", "--no-verify", "-m", "all")
    run(tmp_path, "git", "clone", "--quiet", folder, tmp_path / "clone")
    return tmp_path / "clone"


def bake(template: Path, place: Path, environment: dict[str, str], *options: str) -> Path:
    """Bake from the command line, as a user does."""
    place.mkdir(exist_ok=True)
    finished = subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(template), "-o", str(place), *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    [project] = place.iterdir()
    return project


def contents(project: Path) -> dict[str, tuple[int, bytes]]:
    """Each file's rights and bytes, but for the secret."""
    return {
        path.relative_to(project).as_posix(): (path.stat().st_mode, path.read_bytes())
        for path in sorted(project.rglob("*"))
        if path.is_file() and path.name != SECRET
    }


def test_a_clone_gives_what_the_working_tree_gives(
    root: Path, clone: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    here = bake(root, tmp_path / "here", environment, "--no-input")
    there = bake(clone, tmp_path / "there", environment, "--no-input")
    assert contents(here) == contents(there)
    assert len(contents(here)) > 100
    assert (here / SECRET).read_bytes() != (there / SECRET).read_bytes()


def test_a_project_is_baked_again_from_its_replay(
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


def test_no_cache_is_baked(clone: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    plain = contents(bake(clone, tmp_path / "plain", environment, "--no-input"))
    used = clone / TEMPLATE
    for cache in ("src/falcon_pachinko/__pycache__", "tests/unit/__pycache__", ".ruff_cache/0.1"):
        (used / cache).mkdir(parents=True)
        (used / cache / "a.pyc").write_bytes(b"cached")
    assert contents(bake(clone, tmp_path / "used", environment, "--no-input")) == plain

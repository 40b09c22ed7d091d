"""Reactions, replies and notifications can each be deleted: their modules, and the lines that name them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

BOUND_SECONDS = 600

Run = Callable[..., str]

# Of each part: what its lines in other modules contain, and its tests beside those of its own module.
PARTS = {
    "notifications": ("notifications", "notification"),
    "reactions": ("reactions", "reaction or changes_need_a_store"),
    "replies": ("replies|with_quotes", "reply or replies or quote or changes_need_a_store"),
}


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("part", PARTS)
def test_a_project_passes_all_checks_without_a_part(
    baked: Callable[..., Path], run: Run, project_python: Path, part: str
) -> None:
    project = baked()
    [package] = project.glob("src/chat_service")
    names, tests = PARTS[part]

    def python(*arguments: str) -> str:
        return run(project, project_python, "-m", *arguments, PYTHONPATH=project / "src")

    (package / f"web/chat/{part}.js").unlink()
    (project / f"tests/browser/test_{part}.py").unlink()
    drop_lines(package / "web/chat/main.js", names)
    if part != "notifications":
        (package / f"resources/{part}.py").unlink()
        drop_lines(package / "resources/past.py", names)
        assert "wrote" in python("chat_service.contract_files")
    others = [
        path for path in (package / "web").rglob("*.js") if f"{part}.js" in path.read_text("utf-8")
    ]
    assert others == []

    python("ruff", "check", "--no-cache")
    python("mypy")
    suite = ("tests/unit", "tests/integration", "tests/web")  # tests/e2e is about processes.
    python("pytest", "-q", "-m", "not redis and not postgres", "-k", f"not ({tests})", *suite)


def drop_lines(path: Path, names: str) -> None:
    """Remove the lines that contain one of the names."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not re.search(names, line, re.IGNORECASE)]
    assert len(kept) < len(lines)
    path.write_text("".join(kept), "utf-8")

"""Reactions, replies and notifications can each be deleted: their modules, and the lines that name them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

BOUND_SECONDS = 1200

Run = Callable[..., str]

# Of each part: what its lines in other modules contain, and its tests beside those of its own module.
PARTS = {
    "notifications": ("notifications", "notification"),
    "reactions": ("reactions", "reaction or changes_need_a_store"),
    "replies": ("replies|with_quotes", "reply or replies or quote or changes_need_a_store"),
}


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("part", PARTS)
def test_a_project_is_complete_without_a_part(
    baked: Callable[..., Path], run: Run, project_python: Path, part: str
) -> None:
    project = baked()
    delete(project, part)
    check(project, run, project_python)


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_project_without_all_parts_passes_its_tests(
    baked: Callable[..., Path], run: Run, project_python: Path
) -> None:
    project = baked()
    for part in PARTS:
        delete(project, part)
    check(project, run, project_python)
    tests = " or ".join(tests for _, tests in PARTS.values())
    run(
        *(project, project_python, "-m", "pytest", "-q", "-n", "2"),
        *("-m", "not slow and not redis and not postgres", "-k", f"not ({tests})"),
        *("tests/unit", "tests/integration", "tests/web"),
        PYTHONPATH=project / "src",
    )


def delete(project: Path, part: str) -> None:
    """Delete the modules of a part, its tests, and the lines that name it."""
    [package] = project.glob("src/chat_service")
    names, _ = PARTS[part]
    (package / f"web/chat/{part}.js").unlink()
    (project / f"tests/browser/test_{part}.py").unlink()
    drop_lines(package / "web/chat/main.js", names)
    if part != "notifications":
        (package / f"resources/{part}.py").unlink()
        drop_lines(package / "resources/past.py", names)
    others = [
        path for path in (package / "web").rglob("*.js") if f"{part}.js" in path.read_text("utf-8")
    ]
    assert others == []


def check(project: Path, run: Run, project_python: Path) -> None:
    """Update the contract, and check the code."""
    for arguments in (("chat_service.contract_files",), ("ruff", "check", "--no-cache"), ("mypy",)):
        run(project, project_python, "-m", *arguments, PYTHONPATH=project / "src")


def drop_lines(path: Path, names: str) -> None:
    """Remove the lines that contain one of the names."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not re.search(names, line, re.IGNORECASE)]
    assert len(kept) < len(lines)
    path.write_text("".join(kept), "utf-8")

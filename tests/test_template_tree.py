"""The repository contains only tracked files, and no references to this machine."""

import re
import subprocess
from pathlib import Path

import pytest

TEMPLATE = "{{cookiecutter.project_slug}}"

PACKAGE_HOST = re.compile(r"pythonhosted[.]org|file:/{3}|://[^\s\"'>]*/simple\b")
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|farm|Users)/")


@pytest.fixture(scope="session")
def tracked(root: Path) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True, timeout=30
    )
    return [name for name in listed.stdout.split("\0") if name]


def test_template_folder_contains_only_tracked_files(root: Path, tracked: list[str]) -> None:
    on_disk = {
        path.relative_to(root).as_posix() for path in (root / TEMPLATE).rglob("*") if path.is_file()
    }
    in_git = {name for name in tracked if name.startswith(f"{TEMPLATE}/")}
    assert sorted(on_disk - in_git) == [], "untracked: Cookiecutter would copy these"
    assert sorted(in_git - on_disk) == [], "tracked, but missing on disk"


def test_no_file_contains_a_local_path_or_a_package_host(root: Path, tracked: list[str]) -> None:
    for name in tracked:
        text = (root / name).read_bytes().decode("utf-8", errors="replace")
        assert not PACKAGE_HOST.search(text), name
        assert not MACHINE_PATH.search(text), name
        assert str(root) not in text, name

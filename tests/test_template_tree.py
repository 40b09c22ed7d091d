"""What a clone of the repository holds is what lies here, and nothing of this machine."""

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


def test_the_template_folder_holds_what_git_holds(root: Path, tracked: list[str]) -> None:
    on_disk = {
        path.relative_to(root).as_posix() for path in (root / TEMPLATE).rglob("*") if path.is_file()
    }
    in_git = {name for name in tracked if name.startswith(f"{TEMPLATE}/")}
    assert sorted(on_disk - in_git) == [], "Cookiecutter would copy these, a clone lacks them"
    assert sorted(in_git - on_disk) == [], "git holds these, the disk does not"


def test_no_file_names_this_machine_or_a_package_host(root: Path, tracked: list[str]) -> None:
    for name in tracked:
        text = (root / name).read_bytes().decode("utf-8", errors="replace")
        assert not PACKAGE_HOST.search(text), name
        assert not MACHINE_PATH.search(text), name
        assert str(root) not in text, name

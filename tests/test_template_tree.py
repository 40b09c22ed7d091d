"""The repository contains only tracked files, and no references to this machine."""

import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

TEMPLATE = "{{cookiecutter.project_slug}}"

# Hosts of packages, and the places where tools store or configure one. A project works with any index.
PACKAGE_HOST = re.compile(
    r"pythonhosted[.]org|\bpypi[.](?:python[.])?org|\bregistry[.](?:npmjs[.]org|yarnpkg[.]com)"
    r"|\bdeb[.]debian[.]org|file:/{3}|://[^\s\"'>]*/simple\b|(?<![\w-])--(?:extra-)?index-url[ =]"
    r"|^(?:index|(?:extra-)?index-url|find-links) *=|^--(?:extra-index-url|find-links)",
    re.MULTILINE,
)
HOST_FILES = {
    ".npmrc",
    "package-lock.json",
    "pip.conf",
    "pip.ini",
    "poetry.lock",
    "pylock.toml",
    "uv.lock",
    "uv.toml",
    "yarn.lock",
}
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


def assert_no_hosts(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        assert Path(name).name not in HOST_FILES, f"{name} contains hosts of packages"
        text = (folder / name).read_bytes().decode("utf-8", errors="replace")
        found = PACKAGE_HOST.search(text)
        assert not found, f"{name}: {found and found[0]}"


def test_no_file_names_a_package_host(root: Path, tracked: list[str]) -> None:
    assert_no_hosts(root, tracked)


def test_no_file_of_a_project_names_a_package_host(
    baked: Callable[..., Path], run: Callable[..., str]
) -> None:
    project = baked()
    run(project, "git", "init", "--quiet")
    run(project, "git", "add", "--all")
    listed = run(project, "git", "ls-files", "-z").split("\0")
    names = [name for name in listed if name]
    assert {"Dockerfile", "pyproject.toml", "requirements.txt"} <= set(names)
    assert_no_hosts(project, names)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.md", ("https://files.", "pythonhosted", ".org/packages/")),
        ("a.md", ("see https://", "pypi", ".org/project/falcon/")),
        ("a.txt", ("--", "index-url https://packages.example.com/")),
        ("a.toml", ("find-", 'links = ["/opt/wheels"]')),
        ("a.txt", ("https://mirror.example.com", "/simple", "/falcon/")),
        ("a.json", ("https://registry.", "npmjs", ".org/axe-core")),
        ("uv.lock", ("version = 1",)),
    ],
)
def test_a_package_host_is_found(tmp_path: Path, name: str, parts: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(f"first\n{''.join(parts)}\n", "ascii")
    with pytest.raises(AssertionError, match=name):
        assert_no_hosts(tmp_path, [name])


def test_no_file_contains_a_path_of_this_machine(root: Path, tracked: list[str]) -> None:
    for name in tracked:
        text = (root / name).read_bytes().decode("utf-8", errors="replace")
        assert not MACHINE_PATH.search(text), name
        assert str(root) not in text, name

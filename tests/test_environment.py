"""The environment of a project: installed where it is incomplete, never lost, and not shared by two projects."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

BOUND_SECONDS = 300
TOOLS = "{{cookiecutter.project_slug}}/tools"
# Answers no request, at once: a machine without a network.
OFFLINE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_INDEX_URL": "http://127.0.0.1:9/none",
    "PIP_RETRIES": "0",
}
PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27,<2"]
build-backend = "hatchling.build"

[project]
name = "small"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = []

[project.optional-dependencies]
dev = ["iniconfig"]

[tool.hatch.build.targets.wheel]
bypass-selection = true
"""
# Creates environments, and installs the metadata of what is requested; fails for the command in UV_FAILS.
UV = """\
#!{python}
import os, pathlib, subprocess, sys
with open(os.environ["UV_LOG"], "a", encoding="utf-8") as log:
    print(*sys.argv[1:], file=log)
if os.environ.get("UV_FAILS") == sys.argv[1]:
    sys.exit(1)
if sys.argv[1] == "venv":
    command = [os.path.realpath(sys.executable), "-m", "venv", "--without-pip", sys.argv[-1]]
    sys.exit(subprocess.run(command).returncode)
python = pathlib.Path(sys.argv[sys.argv.index("--python") + 1])
[packages] = python.parents[1].glob("lib/python*/site-packages")
for name in ["small-0.1.0"] + ["iniconfig-2.3.0"] * ("dev" in sys.argv[-1]):
    (packages / (name + ".dist-info")).mkdir(exist_ok=True)
"""

# Runs a program as Python 3.10 would, as far as the program asks.
OLDER = (
    sys.executable,
    "-c",
    "import runpy, sys; sys.version_info = (3, 10, 9); del sys.argv[0];"
    ' runpy.run_path(sys.argv[0], run_name="__main__")',
)

Run = Callable[..., str]


class Small:
    """A small project with the program of the template, and a program in place of uv."""

    def __init__(self, folder: Path, program: Path, environment: dict[str, str]) -> None:
        self.folder, self.program = folder, program
        self.log = folder.parent / "uv.log"
        self.uv = folder.parent / "uv"
        self.uv.write_text(UV.replace("{python}", sys.executable), "utf-8")
        self.uv.chmod(0o755)
        self.environment = environment | {"UV_LOG": str(self.log)}
        folder.mkdir()
        (folder / "pyproject.toml").write_text(PYPROJECT, "utf-8")

    def install(
        self,
        *arguments: str,
        expected: int = 0,
        uv: bool = True,
        python: Sequence[str] = (sys.executable,),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[str, list[str]]:
        """Run the program, and return its output and the commands of uv."""
        self.log.write_text("", "utf-8")
        command = [*python, str(self.program), "--uv", str(self.uv) if uv else ""]
        finished = subprocess.run(
            [*command, *arguments],
            cwd=self.folder,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOUND_SECONDS,
        )
        assert finished.returncode == expected, finished.stderr
        assert "Traceback" not in finished.stderr
        assert not self.folder.joinpath(".venv.replaced", "created-by-make").exists()
        commands = self.log.read_text("utf-8").splitlines()
        return finished.stderr, [line.partition(" ")[0] for line in commands]

    def change(self, old: str, new: str) -> None:
        path = self.folder / "pyproject.toml"
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    @property
    def packages(self) -> Path:
        [packages] = self.folder.glob(".venv/lib/python*/site-packages")
        return packages


@pytest.fixture
def small(root: Path, tmp_path: Path, environment: dict[str, str]) -> Small:
    return Small(tmp_path / "small", root / TOOLS / "environment.py", environment)


def test_each_step_is_reported_and_done_once(small: Small) -> None:
    printed, commands = small.install("dev")
    assert commands == ["venv", "pip"]
    lines = printed.splitlines()
    assert lines[0].startswith("Creating .venv with Python 3.")
    assert lines[1] == "Installing small[dev] into .venv with uv ..."
    assert lines[2].startswith("Installed in ")
    assert small.install("dev") == ("", [])
    assert small.install() == ("", [])


def test_the_folders_above_an_environment_are_created(small: Small) -> None:
    """As those of `make bench` in a new clone."""
    assert small.install("dev", "--venv", "build/bench/venv")[1] == ["venv", "pip"]
    assert (small.folder / "build/bench/venv/bin/python").exists()


def test_a_change_of_pyproject_installs_into_the_environment(small: Small) -> None:
    small.install("dev")
    own = small.packages / "mine.py"
    own.touch()
    small.change("[project]", "# a comment\n[project]")
    assert small.install("dev") == ("", [])
    for old, new in (
        ("0.1.0", "0.2.0"),
        ("iniconfig", "iniconfig>=2"),
        ("hatchling>=1.27", "hatchling"),
    ):
        small.change(old, new)
        printed, commands = small.install("dev")
        assert commands == ["pip"], printed
        assert small.install("dev") == ("", [])
    assert own.exists()


def test_another_target_keeps_the_extras_that_are_installed(small: Small) -> None:
    small.install("dev")
    small.change("0.1.0", "0.2.0")
    assert "Installing small[dev] into" in small.install()[0]
    small.change("dev = ", "other = ")
    small.change("0.2.0", "0.3.0")
    assert "Installing small into" in small.install()[0]


def test_removed_tools_are_noticed(small: Small) -> None:
    """As after `uv sync`, which removes what it does not know."""
    small.install("dev")
    (small.packages / "iniconfig-2.3.0.dist-info").rmdir()
    assert small.install("dev")[1] == ["pip"]
    assert (small.packages / "iniconfig-2.3.0.dist-info").exists()


def test_an_environment_of_another_program_is_used_and_never_removed(small: Small) -> None:
    foreign = (sys.executable, "-m", "venv", "--without-pip", ".venv")
    subprocess.run(foreign, cwd=small.folder, check=True, timeout=60)
    own = small.packages / "mine.py"
    own.touch()
    assert small.install("dev")[1] == ["pip"]
    python = small.folder / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nonexistent")
    printed, commands = small.install("dev", expected=1)
    assert commands == []
    assert ".venv does not run here, and was not created by this program: rename or delete it" in (
        printed
    )
    assert own.exists()


def test_an_environment_that_does_not_run_is_replaced_once_the_new_one_works(small: Small) -> None:
    small.install("dev")
    own = small.packages / "mine.py"
    own.touch()
    python = small.folder / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nonexistent")
    for command in ("venv", "pip"):
        small.install("dev", expected=1, variables={"UV_FAILS": command})
        assert own.exists(), "the former one is restored"
    printed, commands = small.install()
    assert commands == ["venv", "pip"]
    assert "Installing small[dev] into" in printed
    assert not own.exists()


def test_a_moved_project_gets_a_new_environment(small: Small) -> None:
    small.install("dev")
    own = small.packages / "mine.py"
    own.touch()
    small.folder = small.folder.rename(small.folder.with_name("moved"))
    small.install("dev", expected=1, variables={"UV_FAILS": "pip"})
    assert (small.packages / "mine.py").exists()
    assert small.install("dev")[1] == ["venv", "pip"]
    assert not (small.packages / "mine.py").exists()


def test_an_environment_of_another_python_stays_unless_that_one_is_requested(small: Small) -> None:
    small.install()
    older = small.folder / ".venv/bin/python"
    older.unlink()
    older.write_text(f"#!/bin/sh\necho 3 99 '{small.folder / '.venv'}'\n", "utf-8")
    older.chmod(0o755)
    (small.folder / ".venv/lib/python3.99").symlink_to(small.packages.parent)
    assert small.install() == ("", [])
    printed, commands = small.install("--this-python")
    assert ".venv has Python 3.99, not 3." in printed
    assert commands == ["venv", "pip"]


def test_where_python_is_too_old_that_of_the_environment_is_used(small: Small) -> None:
    needed = "Python 3.11 or newer is needed, but "
    assert needed in small.install("dev", expected=1, python=OLDER)[0]
    assert not (small.folder / ".venv").exists()
    small.install("dev")
    assert small.install("dev", python=OLDER) == ("", [])
    small.change("0.1.0", "0.2.0")
    assert small.install("dev", python=OLDER)[1] == ["pip"]
    printed, commands = small.install("dev", "--this-python", expected=1, python=OLDER)
    assert (needed in printed, commands) == (True, [])


def test_an_interrupted_replacement_is_undone(small: Small) -> None:
    small.install()
    own = small.packages / "mine.py"
    own.touch()
    venv = small.folder / ".venv"
    venv.rename(small.folder / ".venv.replaced")
    venv.mkdir()  # incomplete: the machine was switched off
    assert small.install() == ("", [])
    assert own.exists()
    shutil.copytree(venv, small.folder / ".venv.replaced", symlinks=True)
    own.unlink()
    assert small.install() == ("", []), "the new one was complete"
    assert not own.exists()


def test_a_folder_of_another_program_is_never_restored(small: Small) -> None:
    small.install()
    other = small.folder / ".venv.replaced"
    other.mkdir()
    (other / "mine").touch()
    assert small.install() == ("", [])
    assert (other / "mine").exists()


def test_a_creation_that_was_interrupted_is_repeated(small: Small) -> None:
    venv = small.folder / ".venv"
    venv.mkdir()
    (venv / "created-by-make").touch()
    (venv / "bin").mkdir()
    printed, commands = small.install("dev")
    assert "a new one replaces it once it is complete" in printed
    assert commands == ["venv", "pip"]


def test_an_unfinished_first_installation_continues(small: Small) -> None:
    small.install("dev", expected=1, variables={"UV_FAILS": "venv"})
    assert not (small.folder / ".venv").exists()
    small.install("dev", expected=1, variables={"UV_FAILS": "pip"})
    assert small.install("dev")[1] == ["pip"]


def test_an_unknown_extra_is_refused_with_the_known_ones(small: Small) -> None:
    assert "pyproject.toml has no extra devel: it has dev" in small.install("devel", expected=1)[0]


@pytest.mark.timeout(BOUND_SECONDS)
def test_without_a_network_an_environment_of_pip_stays(small: Small) -> None:
    # A user's default, which pip refuses in an environment.
    small.install("dev", uv=False, variables={"PIP_USER": "1"})
    small.change("0.1.0", "0.2.0")
    printed, _ = small.install("dev", uv=False, variables=OFFLINE)
    assert "The installation failed: .venv is as it was. It has every requirement" in printed
    small.change("dependencies = []", 'dependencies = ["missing-from-every-index>=1"]')
    printed, _ = small.install("dev", uv=False, expected=1, variables=OFFLINE)
    assert ".venv is as it was, without missing-from-every-index." in printed
    check = "import iniconfig, importlib.metadata as m; print(m.version('small'))"
    python = small.folder / ".venv/bin/python"
    shown = subprocess.run([python, "-c", check], capture_output=True, text=True, timeout=60)
    assert shown.stdout == "0.1.0\n"


def test_clean_keeps_an_environment_of_another_program(
    baked: Callable[..., Path], run: Run
) -> None:
    project = baked()
    venv = project / ".venv"
    venv.mkdir()
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\n", "utf-8")
    assert ".venv was created by another program, and stays" in run(project, "make", "clean")
    assert venv.exists()
    (venv / "created-by-make").touch()
    run(project, "make", "clean")
    assert not venv.exists()


@pytest.mark.timeout(BOUND_SECONDS)
def test_commit_hooks_run_without_a_network(
    baked: Callable[..., Path], run: Run, project_python: Path
) -> None:
    project = baked()
    (project / ".venv").symlink_to(project_python.parents[1])
    run(project, "git", "init", "--quiet")
    run(project, "git", "add", "--all", ":!.venv")
    hooks = (".venv/bin/python", "-m", "pre_commit", "run", "--all-files")
    printed = run(project, *hooks, **OFFLINE)
    assert printed.count("Passed") == printed.count("\n") == 9, printed
    wrong = project / "src/chat_service/wrong.py"
    wrong.write_text("import os\nx: int = ''\n", "utf-8")
    run(project, "git", "add", str(wrong))
    printed = run(project, *hooks, status=1, **OFFLINE)
    failed = [line.partition(".")[0] for line in printed.splitlines() if line.endswith("Failed")]
    assert failed == ["ruff check", "ruff format", "mypy"], printed


def test_two_projects_in_one_environment_do_not_share_a_framework(
    baked: Callable[..., Path], run: Run, project_python: Path, tmp_path: Path
) -> None:
    alpha, beta = baked(project_name="Alpha"), baked(project_name="Beta")
    # The order of editable installations.
    variables = {"PYTHONPATH": f"{alpha}/src:{beta}/src"}
    assert "usage: python -m alpha" in run(
        tmp_path, project_python, "-m", "alpha", "--help", **variables
    )
    for module in ("beta", "beta.asgi"):
        printed = run(tmp_path, project_python, "-m", module, status=3, **variables)
        assert printed.count("\n") == 1, printed
        assert f"falcon_pachinko in {alpha}/src belongs to another project than beta" in printed


@pytest.fixture
def axe(root: Path, tmp_path: Path, environment: dict[str, str]) -> Callable[..., tuple[str, Path]]:
    """Run the program that fetches axe-core, in an environment with another npm."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    programs = tmp_path / "programs"
    programs.mkdir()
    environment["PATH"] = f"{programs}:/usr/bin:/bin"

    def axe(npm: str, *arguments: str) -> tuple[str, Path]:
        (programs / "npm").write_text(f"#!/bin/sh\n{npm}\n", "utf-8")
        (programs / "npm").chmod(0o755)
        finished = subprocess.run(
            [str(venv / "bin/python"), str(root / TOOLS / "axe.py"), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stderr, venv / "axe"

    return axe


def test_the_fetch_of_axe_is_bounded_and_its_failure_remembered(
    axe: Callable[..., tuple[str, Path]],
) -> None:
    started = time.monotonic()
    printed, _ = axe("sleep 50 & wait", "--seconds", "1")
    assert time.monotonic() - started < 20, "npm and its processes are stopped"
    first, second = printed.splitlines()
    assert first.startswith("Fetching axe-core@")
    assert first.endswith("for at most 1 s ...")
    missing = "axe-core is missing (npm did not finish within 1 s): its tests are skipped."
    assert second == f"{missing} `make axe` fetches it."
    printed, _ = axe("exit 7")
    assert printed.splitlines() == [second]
    printed, _ = axe("exit 7", "--again")
    assert "for at most 15 s ..." in printed
    assert "npm exited with status 7" in printed


def test_axe_is_fetched_once(axe: Callable[..., tuple[str, Path]]) -> None:
    _, folder = axe("exit 1")
    target = folder / "node_modules/axe-core"
    printed, _ = axe(f"mkdir -p '{target}' && touch '{target}/axe.min.js'", "--again")
    assert printed.count("\n") == 1
    assert axe("exit 1") == ("", folder)
    assert not (folder / "failure.txt").exists()


def test_the_record_of_an_installation_is_readable(small: Small) -> None:
    small.install("dev")
    record = small.folder / ".venv/installed.json"
    assert json.loads(record.read_text("utf-8"))["requirements"] == ["iniconfig"]
    record.write_text("{", "utf-8")
    assert small.install("dev")[1] == ["pip"]

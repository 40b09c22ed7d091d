"""The make targets of the template and of a project: help, environment, arguments, CI."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

TARGETS = {
    "template": "help install run test quick chaos model soak check format asyncapi manifest docs screenshots bench sizing lock clean",
    "project": "help install run test quick browser check format load asyncapi docs lock audit sbom clean",
}


@pytest.fixture(params=["template", "project"])
def folder(
    request: pytest.FixtureRequest, root: Path, baked: Callable[..., Path], tmp_path: Path
) -> Path:
    if request.param == "project":
        return baked()
    copy = tmp_path / "template"
    copy.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(root / name, copy)
    return copy


@pytest.fixture
def tools(tmp_path: Path, environment: dict[str, str]) -> Path:
    """The only folder on PATH: the commands' tools without uv."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("awk", "cat", "make", "mkdir", "rm", "sh", "touch"):
        path = shutil.which(tool)
        assert path, tool
        (tools / tool).symlink_to(path)
    (tools / "python3").symlink_to(sys.executable)
    environment["PATH"] = str(tools)
    return tools


def make(
    folder: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def script(path: Path, *lines: str) -> None:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize("arguments", [[], ["help"]], ids=["make", "make help"])
def test_help_lists_every_target(
    folder: Path, environment: dict[str, str], arguments: list[str]
) -> None:
    finished = make(folder, environment, *arguments)
    assert finished.returncode == 0, finished.stderr
    kind = "template" if folder.name == "template" else "project"
    assert [line.split()[1] for line in finished.stdout.splitlines()] == TARGETS[kind].split()


def test_install_uses_uv_if_available(
    folder: Path, tools: Path, environment: dict[str, str]
) -> None:
    without = make(folder, environment, "-n", "install").stdout
    assert '"python3" -m venv' in without
    assert "-m pip install" in without
    script(tools / "uv")
    with_uv = make(folder, environment, "-n", "install").stdout
    assert "uv venv" in with_uv
    assert "uv pip install" in with_uv
    assert "-m venv" not in with_uv
    switched_off = make(folder, environment, "-n", "install", "UV=").stdout
    assert '"python3" -m venv' in switched_off


def test_run_accepts_a_port(
    baked: Callable[..., Path], tools: Path, environment: dict[str, str]
) -> None:
    project = baked(package_name="hello")
    assert (
        "APP_PORT=9000 .venv/bin/python -m hello"
        in make(project, environment, "-n", "run", "PORT=9000").stdout
    )
    assert "APP_PORT" not in make(project, environment, "-n", "run").stdout, (
        "without PORT the value in .env applies"
    )


def test_too_old_python_is_rejected_in_one_sentence(
    folder: Path, tools: Path, environment: dict[str, str]
) -> None:
    older = "import sys; sys.version_info = (3, 10, 9); exec(sys.argv[1])"
    script(tools / "python3.10", f"exec '{sys.executable}' -c '{older}' \"$2\"")
    finished = make(folder, environment, "install", "PYTHON=python3.10")
    assert finished.returncode != 0
    assert "Python 3.11 or newer is needed, but python3.10 is 3.10: name a newer one" in (
        finished.stderr
    )
    assert "Traceback" not in finished.stderr
    assert not (folder / ".venv").exists()


def test_environment_is_rebuilt_only_after_changes(
    baked: Callable[..., Path], tools: Path, environment: dict[str, str]
) -> None:
    project = baked()
    script(tools / "uv", 'echo "uv $@"', "mkdir -p .venv", '[ "$1" = pip ] || rm -f .venv/*')

    def steps() -> list[str]:
        finished = make(project, environment, "install")
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.splitlines()

    everything = [
        "uv venv --quiet --clear --python python3 .venv",
        "uv pip install --quiet --python .venv -e .",
        "uv pip install --quiet --python .venv -e .[dev,servers]",
    ]
    assert steps() == everything
    assert steps() == []
    os.utime(project / "pyproject.toml")
    assert steps() == []
    with (project / "pyproject.toml").open("a", encoding="utf-8") as pyproject:
        pyproject.write("# changed\n")
    assert steps() == everything
    moved = project.rename(project.with_name("moved"))
    assert make(moved, environment, "install").stdout.splitlines() == everything


def test_failed_installation_is_retried(
    baked: Callable[..., Path], tools: Path, environment: dict[str, str]
) -> None:
    project = baked()
    script(tools / "uv", "mkdir -p .venv", '[ "$1" = venv ]')
    assert make(project, environment, "install").returncode != 0
    script(tools / "uv", 'echo "uv $1"')
    finished = make(project, environment, "install")
    assert finished.stdout.splitlines() == ["uv venv", "uv pip", "uv pip"]


def test_ci_command_checks_and_tests(root: Path) -> None:
    command = root / ".ci" / "run"
    assert os.access(command, os.X_OK)
    lines = command.read_text("utf-8").splitlines()
    assert lines[-2:] == ["make check", "make test"]
    assert "set -euo pipefail" in lines


def test_baking_takes_under_ten_seconds(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.setenv("HOME", environment["HOME"])
    started, started_cpu = time.perf_counter(), time.process_time()
    cookiecutter(str(root), no_input=True, output_dir=str(tmp_path))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    print(f"baked in {seconds:.2f} s, {cpu_seconds:.2f} s of it CPU time of this process")
    assert seconds < 10

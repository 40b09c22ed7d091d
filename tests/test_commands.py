"""The make targets of the template and of a project: help, environment, arguments, CI."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

PROGRAM = "{{cookiecutter.project_slug}}/tools/environment.py"
TARGETS = {
    "template": "help install run test quick chaos model soak check format asyncapi manifest docs screenshots bench sizing lock clean",
    "project": "help install run test quick browser axe check format load asyncapi docs lock audit sbom clean",
}


@pytest.fixture(params=["template", "project"])
def folder(
    request: pytest.FixtureRequest, root: Path, baked: Callable[..., Path], tmp_path: Path
) -> Path:
    if request.param == "project":
        return baked()
    copy = tmp_path / "template"
    copy.mkdir()
    for name in ("Makefile", "pyproject.toml", PROGRAM):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, copy / name)
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
    assert '--uv "" ' in make(folder, environment, "-n", "install").stdout
    script(tools / "uv")
    assert f'--uv "{tools}/uv" ' in make(folder, environment, "-n", "install").stdout
    assert '--uv "" ' in make(folder, environment, "-n", "install", "UV=").stdout


def test_only_a_given_python_replaces_that_of_an_environment(
    folder: Path, tools: Path, environment: dict[str, str]
) -> None:
    assert "--this-python" not in make(folder, environment, "-n", "install").stdout
    assert "--this-python" in make(folder, environment, "-n", "install", "PYTHON=python3").stdout
    environment["PYTHON"] = "python3"
    assert "--this-python" in make(folder, environment, "-n", "install").stdout


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
    older = (
        "import runpy, sys; sys.version_info = (3, 10, 9); del sys.argv[0];"
        ' runpy.run_path(sys.argv[0], run_name="__main__")'
    )
    script(tools / "python3.10", f"exec '{sys.executable}' -c '{older}' \"$@\"")
    finished = make(folder, environment, "install", "PYTHON=python3.10")
    assert finished.returncode != 0
    assert re.search(
        r"Python 3\.11 or newer is needed, but \S+ is 3\.10: name a newer one", finished.stderr
    )
    assert "Traceback" not in finished.stderr
    assert not (folder / ".venv").exists()


def test_ci_command_checks_and_tests(root: Path) -> None:
    command = root / ".ci" / "run"
    assert os.access(command, os.X_OK)
    lines = command.read_text("utf-8").splitlines()
    assert lines[-2:] == ["make check", "make test"]
    assert "set -euo pipefail" in lines
    # Tests update projects from older commits.
    assert any("git fetch --quiet --unshallow" in line for line in lines)
    workflow = (root / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    assert "fetch-depth: 0" in workflow


def test_baking_takes_under_ten_seconds(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.setenv("HOME", environment["HOME"])
    started, started_cpu = time.perf_counter(), time.process_time()
    cookiecutter(str(root), no_input=True, output_dir=str(tmp_path))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    print(f"baked in {seconds:.2f} s, {cpu_seconds:.2f} s of it CPU time of this process")
    assert seconds < 10

"""Fixtures of the template's tests: baked projects, a clean environment, the order of the tests."""

# ruff: noqa: E402 - the next statement has to precede the imports.
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# NOTE: Cookiecutter copies every file of the template's folder, so bytecode must be written elsewhere.
sys.pycache_prefix = os.environ.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / "build" / "pycache"))

import contextlib
import fcntl
import json
import random
import socket
import subprocess
import tomllib
from collections.abc import Callable, Generator
from typing import Any

import pytest
from pytest_cookies.plugin import Cookies, Result

from falcon_pachinko.testing.shell import clean_environment

from .support.processes import required_program
from .support.recipe_project import APPLICATION_RECIPES, RecipeProject

FRAMEWORK_TESTS = ROOT / "tests" / "framework"
REQUIRES_ALL = "CI_REQUIRES_ALL"
# An argument of make: uv installs in a tenth of pip's time.
WITH_UV = f"UV={Path(sys.executable).with_name('uv')}"
COMMAND_SECONDS = 1500
INSTALL_SECONDS = 240
PORT_ATTEMPTS = 100
VARIABLES = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))

FAR_FROM_DEFAULT = {
    "project_name": 'Ünï "quoted" 🎲 \\ {x}',
    "project_slug": "Odd.One_2",
    "package_name": "zzz_late",
    "description": "- yes: {it's} #odd",
    "author_name": "Ada 'Zoë' Ω",
    "author_email": " ",
    "resource_name": "GameTable",
    "websocket_path": "/live/v1.0/~tables",
    "room_prefix": "it's:",
    "license": "Proprietary",
}


# These run inside a baked project: see test_baked_suite.py.
collect_ignore = ["overlay"]

# Variables of the template's tests and of projects.
OWN_PREFIXES = ("APP_", "COOKIECUTTER", "MAKE")

# Skips that CI allows: the system refuses the operation, and no program can be installed to change it.
ALLOWED_SKIPS = (
    "PID namespace",
    "namespace of processes",
    "in memory is not lost",
    "io_uring is not available",
)


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Remove from the environment what the shell sets for other programs; installations keep a proxy."""
    clean_environment(OWN_PREFIXES, keep_proxies=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_skipped(report)
    return report


def fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure if CI_REQUIRES_ALL=1: a missing program must not go unnoticed there."""
    if not report.skipped or hasattr(report, "wasxfail") or os.environ.get(REQUIRES_ALL) != "1":
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(allowed in reason for allowed in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"{reason} ({REQUIRES_ALL}=1 allows no skip)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests with a timeout of their own as slow; order the tests.

    The longest tests of the template come first: a test of minutes that one worker starts last would
    keep all others waiting. The framework's tests come last, because they measure times and the
    template's tests put load on all cores.
    """

    def timeout_seconds(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return float(marker.args[0]) if marker else 0.0

    for item in items:
        if timeout_seconds(item):
            item.add_marker("slow")
    items.sort(key=lambda item: (FRAMEWORK_TESTS in item.path.parents, -timeout_seconds(item)))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def bake(cookies: Cookies) -> Callable[..., Result]:
    """Bake with the defaults and the given answers."""

    def bake(**answers: str) -> Result:
        unknown = answers.keys() - {name for name in VARIABLES if not name.startswith("_")}
        # Cookiecutter ignores unknown names: a typo would test the default.
        assert not unknown, f"not in cookiecutter.json: {', '.join(sorted(unknown))}"
        return cookies.bake(extra_context=answers, template=str(ROOT))

    return bake


@pytest.fixture
def baked(bake: Callable[..., Result]) -> Callable[..., Path]:
    """Bake a project without an error, and return its folder."""

    def baked(**answers: str) -> Path:
        result = bake(**answers)
        assert result.exception is None, result.exception
        project: Path = result.project_path
        return project

    return baked


@pytest.fixture(params=["the defaults", "far from them"])
def default_or_far(request: pytest.FixtureRequest) -> dict[str, str]:
    """No answers, or a non-default answer to each question but the Python version."""
    return {} if request.param == "the defaults" else dict(FAR_FROM_DEFAULT)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a run share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return folder


@pytest.fixture
def environment(tmp_path: Path, shared: Path) -> dict[str, str]:
    """The environment of a user with an empty home, without the variables of this test run."""
    return environment_of(tmp_path / "home", shared)


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return an unused port, for a program that cannot choose one itself.

    It lies below the ephemeral ports (32,768 and up on Linux), so that no outgoing connection of
    another test takes it before the program does. pytest-randomly gives all workers the same seed, hence
    the generator of the system.
    """

    def free_port() -> int:
        for _ in range(PORT_ATTEMPTS):
            with contextlib.suppress(OSError):
                port = random.SystemRandom().randrange(20_000, 32_000)
                with socket.create_server(("127.0.0.1", port)):
                    return port
        raise AssertionError("no free port between 20,000 and 32,000")

    return free_port


@pytest.fixture
def nginx() -> str:
    return required_program("nginx")


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[..., str]:
    """Run a command in a folder, check its exit status, and return its output."""

    def run(folder: Path, *command: str | Path, status: int = 0, **variables: str | Path) -> str:
        finished = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env=environment | {name: str(value) for name, value in variables.items()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert finished.returncode == status, f"{folder.name}: {finished.stdout}"
        return finished.stdout

    return run


@pytest.fixture(scope="session")
def project_python(shared: Path) -> Path:
    """The Python of an environment with the dependencies of a default project, without the project.

    The workers of a run share one environment.
    """
    folder = shared / "dependencies"
    folder.mkdir(exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system releases it when the process ends
        if not (folder / "complete").exists():
            variables = environment_of(folder / "home", shared)

            def run(*command: str | Path) -> None:
                subprocess.run(command, env=variables, check=True, timeout=INSTALL_SECONDS)

            bake = (sys.executable, "-m", "cookiecutter", ROOT, "--no-input", "-o", folder)
            run(*bake, "--overwrite-if-exists")
            pyproject = (folder / "chat-service" / "pyproject.toml").read_text(encoding="utf-8")
            declared = tomllib.loads(pyproject)["project"]
            extras = declared["optional-dependencies"]
            requirements = declared["dependencies"] + extras["dev"] + extras["servers"]
            run(sys.executable, "-m", "venv", "--clear", folder / "venv")
            run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements)
            (folder / "complete").touch()
    return python


@pytest.fixture(scope="session")
def plain_project(
    tmp_path_factory: pytest.TempPathFactory, shared: Path, project_python: Path
) -> RecipeProject:
    """A project with the default answers, to copy."""
    folder = tmp_path_factory.mktemp("recipes")
    environment = environment_of(folder / "home", shared)
    command = [sys.executable, "-m", "cookiecutter", str(ROOT), "--no-input", "-o", str(folder)]
    subprocess.run(command, env=environment, check=True, timeout=INSTALL_SECONDS)
    return RecipeProject(folder / "chat-service", project_python, environment)


@pytest.fixture(scope="session")
def recipe_project(
    plain_project: RecipeProject, tmp_path_factory: pytest.TempPathFactory
) -> RecipeProject:
    """A project with all recipes for applications, after `make format asyncapi`."""
    project = plain_project.copy(tmp_path_factory.mktemp("recipes") / "chat-service")
    for name in APPLICATION_RECIPES:
        project.apply(name)
    project.tidy()
    return project


def environment_of(home: Path, shared: Path) -> dict[str, str]:
    """Return the inherited environment without the test run's variables, with a Git identity."""
    home.mkdir(exist_ok=True)
    inherited: dict[str, Any] = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("APP_", "MAKE", "PYTEST", "PYTHON", "COOKIECUTTER", "XDG_"))
        # In a Git hook or a rebase these would make the tests commit into this repository.
        and (not name.startswith("GIT_") or name.startswith("GIT_SSL_"))
        and name not in {"MFLAGS", "PORT", "VIRTUAL_ENV"}
    }
    identity = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", "Ada"), ("EMAIL", "ada@example.com"))
    }
    own = {
        "HOME": str(home),
        # Shared caches; mypy's does not support concurrent runs, so each worker has its own.
        "PIP_CACHE_DIR": str(shared / "pip"),
        "MYPY_CACHE_DIR": str(shared / f"mypy-{os.environ.get('PYTEST_XDIST_WORKER')}"),
    }
    return inherited | identity | own

"""What the tests of the template share: its place, a way to bake it, and what runs first."""

import contextlib
import fcntl
import json
import os
import random
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_cookies.plugin import Cookies, Result

ROOT = Path(__file__).resolve().parent.parent
COMMAND_SECONDS = 800
LENDING_SECONDS = 240
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for more than the usual time as slow, and begin with the slowest.

    A worker that comes to a test of minutes last would let the others wait for it.
    """

    def bound_seconds(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return float(marker.args[0]) if marker else 0.0

    for item in items:
        if bound_seconds(item):
            item.add_marker("slow")
    items.sort(key=bound_seconds, reverse=True)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def bake(cookies: Cookies) -> Callable[..., Result]:
    """Bake with the defaults and the given answers."""

    def bake(**answers: str) -> Result:
        unknown = answers.keys() - {name for name in VARIABLES if not name.startswith("_")}
        # Cookiecutter ignores what it does not know: a typo would test the default.
        assert not unknown, f"no variables of cookiecutter.json: {', '.join(sorted(unknown))}"
        return cookies.bake(extra_context=answers, template=str(ROOT))

    return bake


@pytest.fixture
def baked(bake: Callable[..., Result]) -> Callable[..., Path]:
    """Bake a project that has to succeed, and give its folder."""

    def baked(**answers: str) -> Path:
        result = bake(**answers)
        assert result.exception is None, result.exception
        project: Path = result.project_path
        return project

    return baked


@pytest.fixture(params=["the defaults", "far from them"])
def default_or_far(request: pytest.FixtureRequest) -> dict[str, str]:
    """Answers: none, or another one to each question but which Python, which has to be the one here."""
    return {} if request.param == "the defaults" else dict(FAR_FROM_DEFAULT)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a run have in common."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return folder


@pytest.fixture
def environment(tmp_path: Path, shared: Path) -> dict[str, str]:
    """The environment of a user who has a home with nothing in it, and not of this test run."""
    return environment_of(tmp_path / "home", shared)


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Give a port that nobody uses, for a program that has to be told one.

    It is below those that the system takes for outgoing connections (32,768 and up on Linux), so that
    none of the many clients of other tests takes it before that program does.
    """

    def free_port() -> int:
        while True:
            with contextlib.suppress(OSError):
                with socket.create_server(("127.0.0.1", random.randrange(20_000, 32_000))) as tried:
                    port: int = tried.getsockname()[1]
                return port

    return free_port


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[..., str]:
    """Run a command in a folder as a user does, and give what it has printed; it ends with status 0."""

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
def lent_python(shared: Path) -> Path:
    """The Python of an environment with all that a project of the defaults declares, and not the project.

    It is made once; the workers of a run share it.
    """
    made = shared / "lent"
    made.mkdir(exist_ok=True)
    python = made / "venv" / "bin" / "python"
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the operating system frees it when the process ends
        if not (made / "complete").exists():
            here = environment_of(made / "home", shared)

            def run(*command: str | Path) -> None:
                subprocess.run(command, env=here, check=True, timeout=LENDING_SECONDS)

            bake = (sys.executable, "-m", "cookiecutter", ROOT, "--no-input", "-o", made)
            run(*bake, "--overwrite-if-exists")
            pyproject = (made / "chat-service" / "pyproject.toml").read_text(encoding="utf-8")
            declared = tomllib.loads(pyproject)["project"]
            requirements = declared["dependencies"] + declared["optional-dependencies"]["dev"]
            run(sys.executable, "-m", "venv", "--clear", made / "venv")
            run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements)
            (made / "complete").touch()
    return python


def environment_of(home: Path, shared: Path) -> dict[str, str]:
    """What a process inherits of this test run that is not this test run's own; git knows who commits."""
    home.mkdir(exist_ok=True)
    inherited: dict[str, Any] = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("APP_", "MAKE", "PYTEST", "PYTHON", "COOKIECUTTER", "XDG_"))
        # A hook of git, or a rebase, would have the tests commit into this very repository.
        and (not name.startswith("GIT_") or name.startswith("GIT_SSL_"))
        and name not in {"MFLAGS", "PORT", "VIRTUAL_ENV"}
    }
    identity = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.com"))
    }
    own = {
        "HOME": str(home),
        # What one test has fetched, or checked, others need not; mypy's cannot be used by two at once.
        "PIP_CACHE_DIR": str(shared / "pip"),
        "MYPY_CACHE_DIR": str(shared / f"mypy-{os.environ.get('PYTEST_XDIST_WORKER')}"),
    }
    return inherited | identity | own

"""The check of several processes, by the server's command line and environment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from falcon_pachinko import ConfigurationError

from {{ cookiecutter.package_name }} import processes, settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the service, without a .env file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = {
    "uvicorn --workers 2": 2,
    "uvicorn --workers=2": 2,
    "uvicorn": 1,
    "uvicorn --workers 1": 1,
    "uvicorn --workers 3 --workers 2": 2,
    "uvicorn --workers 2 --reload": 1,
    "python/uvicorn/__main__.py --workers 2": 2,
    "uvicorn.exe --workers 2": 2,
    "granian --workers 2 --workers-kill-timeout 5": 2,
    "granian --workers-kill-timeout 5": 1,
    "hypercorn -w 2": 2,
    "hypercorn --workers 2": 2,
    "hypercorn -w2": 2,
    "gunicorn -w 2 -k uvicorn_worker.UvicornWorker": 2,
    "gunicorn -w2": 2,
    "gunicorn -w=2": 2,
    "gunicorn -w": 1,
    "gunicorn --workers=2": 2,
    "gunicorn --workers 2 --reload": 2,
    f"other-server --workers 2 {settings.PACKAGE}.asgi:app": 2,
    "pytest --workers 2": 1,
}


def processes_found() -> int:
    """Return the number of processes in the refusal; 1 if there is no refusal."""
    try:
        processes.check_processes()
    except ConfigurationError as error:
        number, _, rest = str(error).partition(" ")
        assert rest == (
            "processes would serve, and each would have rooms of its own: set APP_BACKEND_URL,"
            " or serve with one process"
        )
        return int(number)
    return 1


@pytest.fixture
def run_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make this process look as if a command had started it."""
    return lambda command: monkeypatch.setattr(sys, "argv", command.split())


@pytest.mark.parametrize(("command", "number"), COMMANDS.items())
def test_the_command_of_the_server_determines_the_number_of_processes(
    run_by: Callable[[str], None], command: str, number: int
) -> None:
    run_by(command)
    assert processes_found() == number


@pytest.mark.parametrize(
    ("command", "variable", "number"),
    [
        ("uvicorn", "WEB_CONCURRENCY", 3),
        ("uvicorn --workers 2", "WEB_CONCURRENCY", 2),
        ("uvicorn --reload", "WEB_CONCURRENCY", 1),
        ("gunicorn", "WEB_CONCURRENCY", 3),
        ("gunicorn -w 1", "WEB_CONCURRENCY", 1),
        ("granian", "GRANIAN_WORKERS", 3),
        ("granian", "WEB_CONCURRENCY", 1),
        ("hypercorn", "WEB_CONCURRENCY", 1),
        (f"python/{settings.PACKAGE}/__main__.py", "WEB_CONCURRENCY", 1),
    ],
)
def test_the_default_of_the_server_determines_the_number_of_processes(
    monkeypatch: pytest.MonkeyPatch,
    run_by: Callable[[str], None],
    command: str,
    variable: str,
    number: int,
) -> None:
    monkeypatch.setenv(variable, "3")
    run_by(command)
    assert processes_found() == number


@pytest.mark.parametrize(
    ("command", "variable", "files", "number"),
    [
        ("gunicorn", "--workers 3", {}, 3),
        ("gunicorn", "-b '[::]:80' -w 3", {}, 3),
        ("gunicorn -w 2", "--workers 3", {}, 2),
        ("gunicorn", "", {"gunicorn.conf.py": "bind = ':80'\nworkers = 4\n"}, 4),
        ("gunicorn", "", {"gunicorn.conf.py": "workers = 4\nworkers = 5\n"}, 5),
        ("gunicorn", "-w 3", {"gunicorn.conf.py": "workers = 4\n"}, 3),
        ("gunicorn -w 2", "", {"gunicorn.conf.py": "workers = 4\n"}, 2),
        ("gunicorn -c other.py", "", {"gunicorn.conf.py": "workers = 4", "other.py": ""}, 1),
        ("gunicorn -c other.py", "", {"other.py": "workers = 5"}, 5),
        ("gunicorn -cother.py", "", {"other.py": "workers = 5"}, 5),
        ("gunicorn --config=file:other.py", "", {"other.py": "workers = 5"}, 5),
        ("gunicorn --config other.py", "-c none.py", {"other.py": "workers = 5"}, 5),
        ("gunicorn", "--config other.py", {"other.py": "workers = 5"}, 5),
        ("gunicorn -c missing.py", "", {"gunicorn.conf.py": "workers = 4"}, 1),
        ("gunicorn -c python:other", "", {"other.py": "workers = 5"}, 1),
        ("gunicorn", "", {"gunicorn.conf.py": "workers = 2 * 4"}, 1),
        ("gunicorn", "", {"gunicorn.conf.py": "workers = '4'"}, 1),
        ("gunicorn", "", {"gunicorn.conf.py": "workers ="}, 1),
        ("uvicorn", "--workers 3", {"gunicorn.conf.py": "workers = 4"}, 1),
    ],
)
def test_the_configuration_of_gunicorn_determines_the_number_of_processes(
    monkeypatch: pytest.MonkeyPatch,
    run_by: Callable[[str], None],
    command: str,
    variable: str,
    files: dict[str, str],
    number: int,
) -> None:
    run_by(command)
    monkeypatch.setenv("GUNICORN_CMD_ARGS", variable)
    for name, text in files.items():
        Path(name).write_text(text, encoding="utf-8")
    assert processes_found() == number


def test_a_worker_of_the_same_server_is_a_second_process(
    monkeypatch: pytest.MonkeyPatch, run_by: Callable[[str], None]
) -> None:
    run_by("gunicorn -c configuration-that-computes-it.py")
    monkeypatch.setattr(processes, "count_siblings", lambda: 2)
    assert processes_found() == 3

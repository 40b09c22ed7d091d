"""A test run does not depend on the variables of the shell that starts it."""

import os
import tempfile
from pathlib import Path

import pytest

from falcon_pachinko.testing import shell
from falcon_pachinko.testing.shell import clean_environment


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the environment and the temporary folder after a test."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.mark.parametrize(
    "name",
    [
        *("FORCE_COLOR", "PY_COLORS", "COLUMNS", "PYTEST_ADDOPTS", "WEB_CONCURRENCY", "PIP_USER"),
        *("PGSSLMODE", "LC_ALL", "LANG", "OTEL_TRACES_EXPORTER", "UVICORN_PORT"),
        *("HTTP_PROXY", "https_proxy", "all_proxy", "no_proxy"),
    ],
)
def test_a_variable_for_other_programs_is_removed(name: str) -> None:
    os.environ[name] = "1"
    clean_environment()
    assert name not in os.environ


def test_other_variables_stay() -> None:
    kept = {"APP_PORT": "1", "PATH": os.environ["PATH"], "PIP_INDEX_URL": "x", "HOME": "/home/a"}
    os.environ.update(kept)
    clean_environment()
    assert kept.items() <= os.environ.items()


def test_the_variables_of_a_service_are_removed_in_any_case() -> None:
    os.environ.update(APP_PORT="1", app_host="a", WRAPPED_APP_PORT="1")
    clean_environment(["APP_"])
    assert "APP_PORT" not in os.environ
    assert "app_host" not in os.environ
    assert os.environ["WRAPPED_APP_PORT"] == "1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "127.0.0.1,::1,localhost"),
        ({"no_proxy": "a.example"}, "a.example,127.0.0.1,::1,localhost"),
    ],
)
def test_kept_proxies_are_not_for_this_machine(given: dict[str, str], expected: str) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        os.environ.pop(name, None)
    os.environ.update(given, https_proxy="http://proxy.example:3128")
    for _ in range(2):
        clean_environment(keep_proxies=True)
    assert os.environ["https_proxy"] == "http://proxy.example:3128"
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == expected


@pytest.mark.skipif(os.name != "posix", reason="other systems have no /tmp")
def test_a_long_temporary_folder_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 150)
    folder.mkdir()
    os.environ["TMPDIR"] = str(folder)
    clean_environment()
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == "/tmp"


@pytest.mark.skipif(os.name != "posix", reason="other systems have no /tmp")
def test_a_long_temporary_folder_stays_if_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "SHORT_FOLDER", str(tmp_path / "missing"))
    folder = tmp_path / ("x" * 150)
    folder.mkdir()
    os.environ["TMPDIR"] = str(folder)
    clean_environment()
    assert tempfile.gettempdir() == str(folder)

"""Tests of the template and of a project pass whatever the developer's shell sets."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]

BOUND_SECONDS = 600

# What pytest-randomly does: another order, and the same seed before each test in every process.
SHUFFLED = """
import random

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.reverse()


def pytest_runtest_setup():
    random.seed(1)
"""
NOBODY = "127.0.0.1:9"


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, str]:
    """Variables that developers set, each for a good reason."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "shuffled.py").write_text(SHUFFLED, "ascii")
    temporary = tmp_path / "t" / ("x" * 150)
    temporary.mkdir(parents=True)
    return {
        **dict.fromkeys(("FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE", "PIP_USER"), "1"),
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY"), f"http://{NOBODY}"),
        "ALL_PROXY": f"socks5://{NOBODY}",
        "APP_PORT": "1",
        "COLUMNS": "20",
        "LC_ALL": "C",
        "OTEL_TRACES_EXPORTER": "otlp",
        "PGSSLMODE": "require",
        "PYTEST_ADDOPTS": "-p shuffled --color=yes",
        "PYTHONPATH": str(plugins),
        "TMPDIR": str(temporary),
        "WEB_CONCURRENCY": "3",
    }


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("workers", ["plain", "-n2"])
def test_tests_of_a_project_pass_in_any_shell(
    workers: str,
    hostile: dict[str, str],
    baked: Callable[..., Path],
    project_python: Path,
    run: Run,
) -> None:
    project = baked()
    hostile["PYTHONPATH"] = f"src{os.pathsep}{hostile['PYTHONPATH']}"
    options = [] if workers == "plain" else [workers]
    tests = (
        "tests/unit/test_doctor.py",
        "tests/unit/test_settings.py",
        "tests/unit/test_traces.py",
        "tests/integration/test_sign_in.py",
        "tests/e2e/test_inspect.py",
    )
    command = (project_python, "-m", "pytest", *options, *tests)
    assert " passed" in run(project, *command, **hostile)


@pytest.mark.timeout(BOUND_SECONDS)
def test_tests_of_the_template_pass_in_any_shell(
    hostile: dict[str, str], root: Path, run: Run
) -> None:
    framework = root / "{{cookiecutter.project_slug}}" / "src"
    hostile["PYTHONPATH"] = f"{hostile['PYTHONPATH']}{os.pathsep}{framework}"
    tests = (
        "tests/framework/test_main.py",
        "tests/framework/support/test_redis_servers.py",
        "tests/framework/testing/test_fixtures.py",
        "tests/framework/testing/test_serving.py",
        "tests/test_commands.py",
    )
    selected = ("-k", "not seconds and not rebuilt")
    assert " passed" in run(root, sys.executable, "-m", "pytest", *tests, *selected, **hostile)

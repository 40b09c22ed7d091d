"""What the tests of the template share: its place, and a way to bake it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_cookies.plugin import Cookies, Result

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def bake(cookies: Cookies) -> Callable[..., Result]:
    """Bake with the defaults and the given answers."""

    def bake(**answers: str) -> Result:
        unknown = answers.keys() - VARIABLES.keys()
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


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has a home with nothing in it, and not of this test run."""
    home = tmp_path / "home"
    home.mkdir()
    inherited: dict[str, Any] = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("APP_", "MAKE", "PYTEST", "COOKIECUTTER"))
        and name not in {"MFLAGS", "PORT", "PYTHON_IN_USE", "PYTHONPATH", "VIRTUAL_ENV"}
    }
    return inherited | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}

"""Fixtures of the framework's tests."""

from pathlib import Path

import pytest

import falcon_pachinko
from falcon_pachinko.testing.fixtures import *  # noqa: F403


@pytest.fixture(autouse=True)
def framework_on_pythonpath(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the programs that a test starts import the framework from the same folder."""
    monkeypatch.setenv("PYTHONPATH", str(Path(falcon_pachinko.__file__).parents[1]))

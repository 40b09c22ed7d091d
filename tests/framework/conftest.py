"""Fixtures of the framework's own tests."""

import os
from pathlib import Path

import pytest

import falcon_pachinko
from falcon_pachinko.testing.fixtures import *  # noqa: F403

# Programs that the tests start import the framework from the same place.
os.environ["PYTHONPATH"] = str(Path(falcon_pachinko.__file__).parents[1])


@pytest.fixture(scope="session")
def check_contract() -> bool:
    """Let resources send messages that they do not declare, except where a test is about that."""
    return False

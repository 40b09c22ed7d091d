"""Fixtures of the framework's tests."""

from pathlib import Path

import hypothesis
import pytest

import falcon_pachinko
from falcon_pachinko.testing.fixtures import *  # noqa: F403

# The time of an example says nothing on a busy machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need Redis, and modules that start processes, as slow."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and (
            item.get_closest_marker("redis") or hasattr(getattr(item, "module", None), "subprocess")
        ):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def framework_on_pythonpath(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the programs that a test starts import the framework from the same folder."""
    monkeypatch.setenv("PYTHONPATH", str(Path(falcon_pachinko.__file__).parents[1]))

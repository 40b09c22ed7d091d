"""Fixtures of the framework's tests."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import falcon_pachinko
from falcon_pachinko.testing.fixtures import *  # noqa: F403
from falcon_pachinko.uvicorn.ring import Ring
from falcon_pachinko.uvicorn.write_batch import WRITE_BATCHES, WriteBatch

from .support.rings import open_ring_for_small_rooms

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


@pytest.fixture(autouse=True)
def rings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With ``TEST_IO_URING=1`` write to all rooms of the test's process through io_uring, also to small ones."""
    if os.environ.get("TEST_IO_URING") != "1":
        yield
        return
    opened: list[Ring] = []

    def make(loop: asyncio.AbstractEventLoop) -> WriteBatch:
        batch = WriteBatch(loop)
        batch.ring = open_ring_for_small_rooms()
        opened.append(batch.ring)
        return batch

    monkeypatch.setattr(WRITE_BATCHES, "make", make)
    yield
    for ring in opened:
        ring.close()

"""Whether io_uring can be used here, and a ring for the event loop of a test."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from falcon_pachinko.uvicorn.ring import Ring
from falcon_pachinko.uvicorn.write_batch import WRITE_BATCHES


def is_available() -> bool:
    """Return whether this machine permits io_uring."""
    try:
        Ring().close()
    except OSError:
        return False
    return True


AVAILABLE = is_available()
needs_ring = pytest.mark.skipif(not AVAILABLE, reason="io_uring is not available here")


def open_ring_for_small_rooms() -> Ring:
    """Open a ring that writes to rooms of any size."""
    ring = Ring()
    ring.fewest_members = 1
    return ring


@contextmanager
def ring_for_small_rooms(loop: asyncio.AbstractEventLoop) -> Iterator[Ring]:
    """Write to all rooms of an event loop through a ring, also to those of one member."""
    ring, batch = open_ring_for_small_rooms(), WRITE_BATCHES.of(loop)
    replaced, batch.ring = batch.ring, ring
    try:
        yield ring
    finally:
        batch.ring = replaced
        ring.close()

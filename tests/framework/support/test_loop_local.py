"""One object per open event loop."""

import asyncio

from falcon_pachinko.support.loop_local import PerLoop


def test_each_loop_has_one_object() -> None:
    objects: PerLoop[list[asyncio.AbstractEventLoop]] = PerLoop(lambda loop: [loop])
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        assert objects.of(first) == [first]
        assert objects.of(first) is objects.of(first)
        assert objects.of(second) == [second]
    finally:
        first.close()
        second.close()


def test_objects_of_closed_loops_are_dropped() -> None:
    objects: PerLoop[object] = PerLoop(lambda loop: object())
    for _ in range(3):
        loop = asyncio.new_event_loop()
        objects.of(loop)
        loop.close()
    assert list(objects.values) == [loop]

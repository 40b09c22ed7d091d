"""Task sets: all tasks and timers end with their owner."""

import asyncio

from falcon_pachinko.support.tasks import TaskSet


async def test_a_finished_task_and_timer_are_forgotten() -> None:
    tasks, done = TaskSet(), asyncio.Event()

    async def work() -> None:
        tasks.call_later(0.0, done.set)

    await tasks.create_task(work())
    await asyncio.wait_for(done.wait(), 5.0)
    assert tasks.tasks == set()
    assert tasks.timers == set()


async def test_closing_cancels_timers_and_waits_for_the_cleanup_of_tasks() -> None:
    tasks, events = TaskSet(), list[str]()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            events.append("cleaned up")

    tasks.create_task(work())
    tasks.call_later(0.02, lambda: events.append("timer"))
    await asyncio.sleep(0)
    await tasks.aclose()
    await asyncio.sleep(0.05)
    assert events == ["cleaned up"]
    assert tasks.tasks == set()
    assert tasks.timers == set()


async def test_closing_cancels_a_task_again_that_has_swallowed_a_cancellation() -> None:
    tasks, cancellations = TaskSet(), list[int]()

    async def stubborn() -> None:
        while len(cancellations) < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations.append(1)

    tasks.create_task(stubborn())
    await asyncio.sleep(0)
    await tasks.aclose()
    assert len(cancellations) == 2

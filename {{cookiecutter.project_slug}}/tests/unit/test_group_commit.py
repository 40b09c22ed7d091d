"""Group commit: which rows share a transaction, and who learns of a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from {{ cookiecutter.package_name }} import group_commit
from {{ cookiecutter.package_name }}.group_commit import GroupCommit

WAIT_SECONDS = 5.0


class Outage(Exception):
    """The database is unavailable."""


class Writer:
    """A database in memory, which can be held up and can fail once."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.writes = asyncio.Event()
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.failure: Exception | None = None

    async def write(self, rows: list[int]) -> list[int]:
        self.batches.append(rows)
        self.writes.set()
        await self.may_write.wait()
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        return [row * 10 for row in rows]


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
async def commits(writer: Writer) -> AsyncIterator[GroupCommit[int]]:
    commits = GroupCommit(writer.write, Outage)
    commits.start()
    async with asyncio.timeout(WAIT_SECONDS):
        yield commits
        await commits.stop()


async def add_behind(
    commits: GroupCommit[int], writer: Writer, *rows: int
) -> tuple[asyncio.Task[int], list[asyncio.Task[int]]]:
    """Add a row that is being written, held up, and rows that wait behind it."""
    writer.may_write.clear()
    first = asyncio.create_task(commits.add(0))
    await writer.writes.wait()
    behind = [asyncio.create_task(commits.add(row)) for row in rows]
    await asyncio.sleep(0)
    return first, behind


async def test_rows_of_one_iteration_share_a_batch(
    commits: GroupCommit[int], writer: Writer
) -> None:
    rows = await asyncio.gather(*(commits.add(row) for row in range(50)))
    assert rows == [row * 10 for row in range(50)]
    assert writer.batches == [list(range(50))]


async def test_rows_added_during_a_batch_share_the_next_one(
    commits: GroupCommit[int], writer: Writer
) -> None:
    first, behind = await add_behind(commits, writer, 1, 2, 3)
    writer.may_write.set()
    assert await asyncio.gather(first, *behind) == [0, 10, 20, 30]
    assert writer.batches == [[0], [1, 2, 3]]


async def test_a_batch_is_bounded(
    commits: GroupCommit[int], writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_BATCH", 2)
    await asyncio.gather(*(commits.add(row) for row in range(5)))
    assert writer.batches == [[0, 1], [2, 3], [4]]


async def test_a_row_too_many_is_refused_at_once(
    commits: GroupCommit[int], writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_PENDING", 2)
    first, behind = await add_behind(commits, writer, 1, 2)
    with pytest.raises(Outage):
        await commits.add(3)
    writer.may_write.set()
    assert await asyncio.gather(first, *behind) == [0, 10, 20]


async def test_an_outage_concerns_all_that_wait_and_nobody_later(
    commits: GroupCommit[int], writer: Writer
) -> None:
    first, behind = await add_behind(commits, writer, 1, 2)
    writer.failure = Outage()
    writer.may_write.set()
    ended = await asyncio.gather(first, *behind, return_exceptions=True)
    assert [type(each) for each in ended] == [Outage] * 3
    assert len({id(each) for each in ended}) == 3, "each caller has an exception of its own"
    assert writer.batches == [[0]]
    assert await commits.add(4) == 40


async def test_another_failure_concerns_its_batch_only(
    commits: GroupCommit[int], writer: Writer
) -> None:
    first, behind = await add_behind(commits, writer, 1)
    writer.failure = ZeroDivisionError()
    writer.may_write.set()
    with pytest.raises(ZeroDivisionError):
        await first
    assert await asyncio.gather(*behind) == [10]


async def test_a_cancelled_caller_does_not_disturb_the_others(
    commits: GroupCommit[int], writer: Writer
) -> None:
    first, behind = await add_behind(commits, writer, 1, 2)
    first.cancel()
    behind[0].cancel()
    writer.may_write.set()
    assert await behind[1] == 20
    assert writer.batches == [[0], [1, 2]]


async def test_it_starts_again_after_its_end(commits: GroupCommit[int], writer: Writer) -> None:
    await commits.stop()
    commits.start()
    assert await commits.add(1) == 10


async def test_callers_do_not_wait_after_the_end(commits: GroupCommit[int], writer: Writer) -> None:
    first, behind = await add_behind(commits, writer, 1)
    await commits.stop()
    ended = await asyncio.gather(first, *behind, commits.add(2), return_exceptions=True)
    assert [type(each) for each in ended] == [Outage] * 3

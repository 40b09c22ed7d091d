"""The restrictions of a single process: the state file."""

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends import backend_from_url, memory_restrictions
from falcon_pachinko.backends.restriction_entry import (
    BAN,
    SESSION,
    RestrictionChange,
    RestrictionEntry,
)
from falcon_pachinko.backends.state_file import StateFile
from falcon_pachinko.errors import ConfigurationError, TooManyRestrictions

from ..support.backends import RecordingNode


async def started(path: Path | None) -> RecordingNode:
    """Start a backend with a state file."""
    node = RecordingNode(backend_from_url("", state_file=path))
    node.backend.node = node
    await node.backend.start()
    return node


def ban(node: RecordingNode, user: str = "bob", seconds: int = 60) -> RestrictionChange:
    return RestrictionChange(BAN, user, "", node.backend.restrictions.now + seconds * 1000)


async def test_a_ban_survives_a_restart_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    node = await started(path)
    await node.backend.restrict(ban(node))
    await node.backend.stop()
    again = await started(path)
    assert again.backend.restrictions.entries == node.backend.restrictions.entries
    assert again.backend.restrictions.banned_until("bob")
    await again.backend.restrict(RestrictionChange(BAN, "bob"))
    assert not (await started(path)).backend.restrictions.banned_until("bob")


async def test_without_a_file_the_process_has_them_until_its_end(tmp_path: Path) -> None:
    node = await started(None)
    await node.backend.restrict(ban(node))
    await node.backend.stop()
    await node.backend.start()
    assert node.backend.restrictions.banned_until("bob")
    assert not (await started(None)).backend.restrictions.banned_until("bob")


async def test_concurrent_changes_are_all_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    node = await started(path)
    changes = [ban(node, f"user {number}") for number in range(20)]
    await asyncio.gather(*[node.backend.restrict(change) for change in changes])
    assert len((await started(path)).backend.restrictions.entries) == 20


async def test_changes_during_a_writing_share_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, counts = tmp_path / "state.json", []
    node, write = await started(path), StateFile.write

    def counted(file: StateFile, number: int, entries: Collection[RestrictionEntry]) -> None:
        counts.append(len(entries))
        write(file, number, entries)

    monkeypatch.setattr(StateFile, "write", counted)
    changes = [ban(node, f"user {number}") for number in range(50)]
    await asyncio.gather(*[node.backend.restrict(change) for change in changes])
    assert len(counts) <= 2
    assert counts[-1] == 50
    assert len((await started(path)).backend.restrictions.entries) == 50


async def test_a_failed_writing_is_reported_to_all_who_wait_for_it_and_later_ones_try_again(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "late folder"
    node = await started(folder / "state.json")
    calls = [node.backend.restrict(ban(node, f"user {number}")) for number in range(5)]
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(result, BackendUnavailable)
    folder.mkdir()
    await node.backend.restrict(ban(node, "eve"))
    assert len((await started(folder / "state.json")).backend.restrictions.entries) == 6


async def test_sessions_leave_a_reserve_for_bans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_restrictions, "MAX_WITH_REVOCATIONS", 1)
    node = await started(None)
    until = node.backend.restrictions.now + 60_000
    await node.backend.restrict(RestrictionChange(SESSION, "s1", "", until))
    with pytest.raises(TooManyRestrictions):
        await node.backend.restrict(RestrictionChange(SESSION, "s2", "", until))
    await node.backend.restrict(RestrictionChange(SESSION, "s1", "", until + 1))
    await node.backend.restrict(ban(node))
    assert node.backend.restrictions.banned_until("bob")


async def test_a_corrupt_file_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"state\.json is not valid"):
        await started(path)


async def test_a_ban_that_is_not_stored_applies_and_raises(tmp_path: Path) -> None:
    node = await started(tmp_path / "missing folder" / "state.json")
    with pytest.raises(BackendUnavailable, match="applied, but not stored"):
        await node.backend.restrict(ban(node))
    assert node.backend.restrictions.banned_until("bob")
    assert len(node.restrictions) == 1


async def test_the_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_restrictions, "MAX_RESTRICTIONS", 2)
    node = await started(None)
    for user in ("amy", "bob"):
        await node.backend.restrict(ban(node, user))
    with pytest.raises(TooManyRestrictions, match=r"there are 2 .*shorter times"):
        await node.backend.restrict(ban(node, "eve"))
    await node.backend.restrict(ban(node, "amy", 120))
    assert len(node.backend.restrictions.entries) == 2

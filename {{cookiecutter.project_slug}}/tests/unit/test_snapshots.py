"""The numbers of the processes of one server, in a file for each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from falcon_pachinko.server.metrics import Snapshot

from {{ cookiecutter.package_name }} import snapshots
from {{ cookiecutter.package_name }}.snapshots import Snapshots

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no process ids")


def numbers(count: float) -> Snapshot:
    return {"connections": [((), count)]}


def ended_process() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(20)
    return process.pid


def of(folder: Path, process: int) -> Snapshots:
    """The snapshots as another process of the same server has them."""
    found = Snapshots(folder)
    found.path = folder / f"{found.prefix}{process}.json"
    return found


def test_other_processes_are_read_and_this_one_is_not(tmp_path: Path) -> None:
    own, other = Snapshots(tmp_path / "metrics"), of(tmp_path / "metrics", os.getppid())
    assert own.read() == ([], [])
    own.write(numbers(1))
    other.write(numbers(2))
    other.write(numbers(3))
    assert own.read() == ([numbers(3)], [])
    assert other.read() == ([numbers(1)], [])


def test_a_process_that_has_ended_or_writes_no_more_is_told_apart(tmp_path: Path) -> None:
    own = Snapshots(tmp_path)
    dead, frozen = of(tmp_path, ended_process()), of(tmp_path, os.getppid())
    dead.write(numbers(1))
    frozen.write(numbers(2))
    os.utime(frozen.path, (1, 1))
    assert own.read() == ([], [numbers(1), numbers(2)])


def test_files_that_are_not_valid_and_those_of_other_servers_are_ignored(tmp_path: Path) -> None:
    own = Snapshots(tmp_path)
    of(tmp_path, os.getppid()).path.write_text("{", encoding="utf-8")
    (tmp_path / "other-1-2-3.json").write_bytes(b"{}")
    assert own.read() == ([], [])


def test_only_the_latest_ended_processes_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MAX_ENDED", 1)
    own = Snapshots(tmp_path)
    own.write(numbers(0))
    old, new = of(tmp_path, ended_process()), of(tmp_path, ended_process())
    for each in (old, new):
        each.write(numbers(1))
    os.utime(old.path, (1, 1))
    foreign = [tmp_path / name for name in ("other-1-2-3.json", "other-1-2-4.json")]
    for path in foreign:
        path.write_bytes(b"{}")
    os.utime(foreign[0], (1, 1))
    own.clean()
    assert {path.name for path in tmp_path.iterdir()} == {
        own.path.name,
        new.path.name,
        foreign[1].name,
    }

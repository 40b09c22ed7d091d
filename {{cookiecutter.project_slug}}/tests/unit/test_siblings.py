"""The count of worker processes that share a listening socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from {{ cookiecutter.package_name }} import siblings

WAIT_SECONDS = 20

# Starts two processes, of which each prints its number of siblings once both run; the argument "shared" gives
# both the listening socket.
SERVER = f"""
import os, socket, subprocess, sys

listening = socket.socket(socket.AF_UNIX if sys.argv[1] == "unix" else socket.AF_INET)
listening.bind(sys.argv[3] if sys.argv[1] == "unix" else ("127.0.0.1", 0))
if sys.argv[1] != "bound":
    listening.listen()
WORKER = '''
import sys
print("started", flush=True)
sys.stdin.readline()
from {siblings.__name__} import count_siblings
print(count_siblings(), flush=True)
sys.stdin.readline()
'''
workers = [
    subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[listening.fileno()] if sys.argv[2] == "shared" else [],
    )
    for _ in range(2)
]
for worker in workers:
    worker.stdout.readline()
for worker in workers:
    print(file=worker.stdin, flush=True)
print(*(worker.stdout.readline().strip() for worker in workers))
for worker in workers:
    worker.communicate("\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
@pytest.mark.parametrize("kind", ["tcp", "unix", "bound"])
@pytest.mark.parametrize(("sockets", "found"), [("shared", "1 1"), ("separate", "0 0")])
@pytest.mark.slow
def test_processes_with_a_listening_socket_in_common_are_siblings(
    tmp_path: Path, kind: str, sockets: str, found: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVER, kind, sockets, str(tmp_path / "socket")],
        env=os.environ | {"PYTHONPATH": str(Path(siblings.__file__).parents[1])},
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )
    assert (done.stdout.strip(), done.stderr) == (found, "")


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ``/proc``."""
    monkeypatch.setattr(siblings, "PROCESSES", tmp_path)
    return tmp_path


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A listening socket of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def add_process(
    processes: Path, number: int, parent: int, started_seconds: float, listening: socket.socket
) -> None:
    """Add a process that has the listening socket open."""
    folder = processes / str(number)
    (folder / "fd").mkdir(parents=True)
    inode = os.fstat(listening.fileno()).st_ino
    (folder / "fd" / str(listening.fileno())).symlink_to(f"socket:[{inode}]")
    ticks = round(started_seconds * os.sysconf("SC_CLK_TCK"))
    stat = f"{number} (a ) b) S {parent} " + "0 " * 17 + f"{ticks} 0"
    (folder / "stat").write_text(stat, encoding="utf-8")


@pytest.mark.parametrize(
    ("parent", "started_seconds", "found"),
    [(10, 101, 1), (10, 99, 1), (10, 60, 0), (11, 100, 0)],
)
def test_a_sibling_has_the_same_parent_and_was_started_together_with_this_process(
    processes: Path, listening: socket.socket, parent: int, started_seconds: int, found: int
) -> None:
    add_process(processes, os.getpid(), 10, 100, listening)
    add_process(processes, os.getpid() + 1, parent, started_seconds, listening)
    assert siblings.count_siblings() == found


def test_without_proc_there_are_no_siblings(processes: Path) -> None:
    assert siblings.count_siblings() == 0


def test_without_a_bound_socket_no_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(process: int) -> tuple[int, float]:
        raise AssertionError(process)

    monkeypatch.setattr(siblings, "bound_sockets", set)
    monkeypatch.setattr(siblings, "read_stat", fail)
    assert siblings.count_siblings() == 0

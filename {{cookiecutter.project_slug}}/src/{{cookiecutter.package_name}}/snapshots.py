"""The numbers of each process of a service in a file, so that any of them can add all up."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from falcon_pachinko.server.metrics import Snapshot, decode_snapshot, encode_snapshot

from .siblings import read_stat

# The interval between two snapshots; a file that is older than three of them is not of a running process.
SNAPSHOT_SECONDS = 5.0
STALE_SECONDS = 3 * SNAPSHOT_SECONDS
# The files of processes that have ended which are kept while the server runs, the latest ones.
MAX_ENDED = 32
# Errors of a file that has been removed or has another format, and of a process that has ended.
UNREADABLE = (OSError, ValueError, IndexError, OverflowError, msgspec.DecodeError)
# Files of other servers are removed after this time.
FORGOTTEN_SECONDS = 24 * 3600.0


class Snapshots:
    """The files of the processes of one server: those with the same parent.

    The file of a process that has ended stays for its counters, see :func:`falcon_pachinko.server.metrics.merge`.

    Args:
        folder: The folder of the files; it is created by :meth:`write`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        host = re.sub(r"[^\w.-]", "_", socket.gethostname())
        self.prefix = f"{host}-{os.getppid()}-{started_ms(os.getppid())}-"
        self.path = folder / f"{self.prefix}{os.getpid()}.json"

    def write(self, snapshot: Snapshot) -> None:
        """Replace the file of this process.

        Raises:
            OSError: It cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_bytes(encode_snapshot(snapshot))
        temporary.replace(self.path)

    def read(self) -> tuple[list[Snapshot], list[Snapshot]]:
        """Return the numbers of the other processes that run, and of those that have ended."""
        living: list[Snapshot] = []
        ended: list[Snapshot] = []
        for path, age_seconds in self._others():
            try:
                snapshot = decode_snapshot(path.read_bytes())
            except UNREADABLE:  # just removed, or of another version
                continue
            lives = age_seconds < STALE_SECONDS and is_alive(path)
            (living if lives else ended).append(snapshot)
        return living, ended

    def _others(self) -> Iterator[tuple[Path, float]]:
        """Yield the files of the other processes of this server with their ages, the latest first."""
        now, ages = time.time(), []
        for path in self.folder.glob(f"{self.prefix}*.json"):
            try:
                ages.append((now - path.stat().st_mtime, path))
            except OSError:  # it has just been removed
                continue
        for age_seconds, path in sorted(ages):
            if path != self.path:
                yield path, age_seconds

    def clean(self) -> None:
        """Remove the files of other servers after a day, and of processes of this one above their maximum."""
        ended = [path for path, _ in self._others() if not is_alive(path)]
        forgotten = [
            path
            for path in (*self.folder.glob("*.json"), *self.folder.glob("*.tmp"))
            if not path.name.startswith(self.prefix) and age_of(path) > FORGOTTEN_SECONDS
        ]
        for path in (*ended[MAX_ENDED:], *forgotten):
            path.unlink(missing_ok=True)


def age_of(path: Path) -> float:
    """Return the age of a file in seconds; 0 for one that has just been removed."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def is_alive(path: Path) -> bool:
    """Return whether the process of a file runs, as far as the system tells."""
    number = path.stem.rpartition("-")[2]
    if sys.platform == "win32" or not number.isdecimal():
        return number.isdecimal()
    try:
        os.kill(int(number), 0)
    except PermissionError:
        return True
    except UNREADABLE:
        return False
    return True


def started_ms(process: int) -> int:
    """Return the start of a process after the boot in milliseconds; 0 without Linux's ``/proc``."""
    try:
        return round(read_stat(process)[1] * 1000)
    except UNREADABLE:
        return 0

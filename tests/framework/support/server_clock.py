"""A clock for a server process that jumps on demand, by the library of the Debian package libfaketime."""

from __future__ import annotations

import os
from pathlib import Path

from .redis_servers import REDIS

LIBRARY = "libfaketime.so.1"
FOLDERS = ("/usr/lib", "/usr/local/lib")


def find_faketime() -> Path | None:
    """Return the path of libfaketime; ``None`` if it is not installed."""
    for folder in map(Path, FOLDERS):
        for pattern in (f"faketime/{LIBRARY}", f"*/faketime/{LIBRARY}"):
            for path in folder.glob(pattern):
                return path
    return None


def can_jump(program: str) -> bool:
    """Return whether the clock of a server program can jump: Debian's Redis does not start with libfaketime.

    Its allocator, libjemalloc, reads the clock before libfaketime is initialised.
    """
    return program != REDIS and find_faketime() is not None


class ServerClock:
    """The wall clock of a process; its monotonic clock does not jump.

    Args:
        folder: A folder for the file with the offset.

    Attributes:
        offset_seconds: How far the clock is ahead of the machine's.

    Raises:
        FileNotFoundError: libfaketime is not installed.
    """

    def __init__(self, folder: Path) -> None:
        library = find_faketime()
        if library is None:
            raise FileNotFoundError("the Debian package libfaketime is not installed")
        self.file = folder / "clock"
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.offset_seconds = 0.0
        self.jump(0.0)

    def jump(self, seconds: float) -> None:
        """Set the clock forward, or back by a negative number."""
        self.offset_seconds += seconds
        # NOTE: replaced as a whole: the process may read the file at any time.
        new = self.file.with_suffix(".new")
        new.write_text(f"{self.offset_seconds:+.3f}\n", encoding="utf-8")
        os.replace(new, self.file)

"""Child processes that exchange lines with this process."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

END_SECONDS = 10
REPORTED_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Child:
    """A child process.

    Attributes:
        name: The name in error messages.
        errors: The file of its standard error.
    """

    name: str
    process: subprocess.Popen[str]
    errors: IO[bytes]

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def write_line(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin)

    def read_line(self, timeout_seconds: float) -> str:
        """Wait for the next line of its standard output.

        Raises:
            RuntimeError: The process ended or is late; the message has the end of its errors.
        """
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_seconds)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            problem = "ended" if ready else f"wrote nothing for {timeout_seconds} s"
            self.errors.seek(0)
            errors = self.errors.read()[-REPORTED_BYTES:].decode(errors="replace")
            raise RuntimeError(f"{self.name} {problem}\n{errors}")
        return line


@contextmanager
def start(
    name: str,
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    cores: Collection[int] = (),
) -> Iterator[Child]:
    """Start a process in a folder, on these cores or on all, and kill it and its own children at the end."""

    def prepare() -> None:
        die_with_parent()
        if cores:
            os.sched_setaffinity(0, cores)

    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            bufsize=1,
            preexec_fn=prepare,
        )
        try:
            yield Child(name, process, errors)
        finally:
            # NOTE: some servers wait forever for disconnected clients, so there is no graceful stop.
            process.kill()
            process.communicate(timeout=END_SECONDS)


def die_with_parent() -> None:
    """Request SIGKILL when the parent ends (Linux), because a killed parent cannot end children."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def python(*arguments: str) -> list[str]:
    """Return a command for this Python; :func:`~bench.install.environment` has the folder of its bytecode."""
    return [sys.executable, *arguments]

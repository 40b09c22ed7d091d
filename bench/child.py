"""Processes that are told and answer lines."""

from __future__ import annotations

import ctypes
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

END_SECONDS = 10
SHOWN_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Child:
    """A process that answers with lines.

    Attributes:
        name: What errors call it.
        errors: Where it complains.
    """

    name: str
    process: subprocess.Popen[str]
    errors: IO[bytes]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def tell(self, line: str) -> None:
        """Write a line to it."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin)

    def listen(self, bound_seconds: float) -> str:
        """Wait for its next line.

        Raises:
            RuntimeError: It has ended or is late; with the end of what it complained about.
        """
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], bound_seconds)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            what = "ended" if ready else f"said nothing for {bound_seconds} s"
            self.errors.seek(0)
            complaint = self.errors.read()[-SHOWN_BYTES:].decode(errors="replace")
            raise RuntimeError(f"{self.name} {what}\n{complaint}")
        return line


@contextmanager
def start(
    name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[Child]:
    """Start a process in a folder; it is killed at the end of the block, and so are those that it has started so."""
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
            preexec_fn=die_with_parent,
        )
        try:
            yield Child(name, process, errors)
        finally:
            # NOTE: some servers wait for ever for clients that are gone; a goodbye matters to nobody.
            process.kill()
            process.communicate(timeout=END_SECONDS)


def die_with_parent() -> None:
    """Linux: a parent that is killed cannot end its children."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def python(*arguments: str) -> list[str]:
    """The command that runs Python as this process does, but leaves no caches behind."""
    return [sys.executable, "-B", *arguments]

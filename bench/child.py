"""A process that answers with lines."""

from __future__ import annotations

import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

END_SECONDS = 10
SHOWN_BYTES = 4_000


class Child:
    """A process that is killed at the end of the block.

    Args:
        name: What errors call it.
        command: What starts it.
        folder: Where it runs.
        environment: What it sees.
    """

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # NOTE: some servers wait for ever for clients that are gone; nothing here needs a goodbye.
        self.process.kill()
        self.process.communicate(timeout=END_SECONDS)
        self.errors.close()

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


def python(*arguments: str) -> list[str]:
    """The command that runs Python as this process does, but leaves no caches behind."""
    return [sys.executable, "-B", *arguments]

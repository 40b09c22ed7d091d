"""The program of the README works against the service."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conftest import Server

README = Path(__file__).parents[2] / "README.md"
BOUND_SECONDS = 20.0


def test_the_program_sends_and_receives(server: Server) -> None:
    section = README.read_text("utf-8").partition("### From a program\n")[2].partition("\n## ")[0]
    [program] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    program = program.replace("127.0.0.1:8000", server.url.partition("//")[2])
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    stop = threading.Timer(BOUND_SECONDS, process.kill)
    stop.start()
    try:
        assert process.stdout is not None
        lines = list(iter_until(process.stdout, "ServerNewMessage("))
        assert "text='Beep'" in lines[-1], "".join(lines)
    finally:
        stop.cancel()
        process.kill()
        process.communicate()


def iter_until(lines: Iterable[str], beginning: str) -> Iterator[str]:
    """Yield lines up to and including the first one with a beginning."""
    for line in lines:
        yield line
        if line.startswith(beginning):
            return

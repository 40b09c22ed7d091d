"""The programs of the README and of the guide work against the service."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conftest import Server

PROJECT = Path(__file__).parents[2]
BOUND_SECONDS = 20.0


def program(document: str, heading: str) -> str:
    """Return the Python block below a heading."""
    text = (PROJECT / document).read_text("utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert isinstance(block, str)
    return block


@contextmanager
def output_of(source: str, server: Server) -> Iterator[Iterable[str]]:
    """Run a program against the service for a bounded time; yield its lines."""
    source = source.replace("127.0.0.1:8000", server.url.partition("//")[2])
    process = subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    stop = threading.Timer(BOUND_SECONDS, process.kill)
    stop.start()
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        stop.cancel()
        process.kill()
        process.communicate()


def read_until(lines: Iterable[str], part: str) -> list[str]:
    """Return the lines up to and including the first one with a part."""
    read = []
    for line in lines:
        read.append(line)
        if part in line:
            break
    return read


def test_a_program_sends_and_receives(server: Server) -> None:
    with output_of(program("README.md", "From a program"), server) as output:
        lines = read_until(output, "ServerNewMessage(")
    assert "text='Beep'" in lines[-1], "".join(lines)


def test_one_connection_is_in_several_rooms(server: Server) -> None:
    sign_in = program("README.md", "From a program").partition("async def main")[0]
    rooms = program("docs/guide.md", "Join several rooms from a program")
    with output_of(sign_in + rooms, server) as output:
        seen: set[str] = set()
        for line in output:
            if "ServerNewMessage(" in line and "text='Beep'" in line:
                seen.add(line.partition(" ")[0])
            if len(seen) == 2:
                break
    assert seen == {"general", "random"}

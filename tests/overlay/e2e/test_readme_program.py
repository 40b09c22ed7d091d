"""The programs of the README and of the guide work against the service."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conftest import Server

PROJECT = Path(__file__).parents[2]
BOUND_SECONDS = 20.0


def programs(document: str, heading: str) -> list[str]:
    """Return the Python blocks below a heading."""
    text = (PROJECT / document).read_text("utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_one_connection_is_in_several_rooms(server: Server) -> None:
    [first] = programs("README.md", "From a program")
    [second] = programs("docs/guide.md", "Join several rooms from a program")
    sign_in = first.partition("url = ")[0].replace("127.0.0.1:8000", server.url.partition("//")[2])
    finished = subprocess.run(
        [sys.executable, "-c", sign_in + second],
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
    )
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    for room in ("general", "random"):
        assert f"{room} serverJoined" in lines
        assert lines[-1 if room == "random" else -2] == f"{room} serverNewMessage"

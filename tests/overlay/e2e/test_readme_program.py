"""The programs of the README work against the service."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conftest import Server

README = Path(__file__).parents[2] / "README.md"
BOUND_SECONDS = 20.0


def test_one_connection_is_in_several_rooms(server: Server) -> None:
    section = README.read_text("utf-8").partition("### From a program\n")[2].partition("\n## ")[0]
    first, second = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
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

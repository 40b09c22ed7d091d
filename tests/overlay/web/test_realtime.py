"""The scenarios of realtime.js in Node; tests/browser runs them in a browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .scripted_server import scripted_server

if TYPE_CHECKING:
    from ..conftest import Server

HERE = Path(__file__).parent
CLIENT = next(HERE.parents[1].glob("src/*/web/realtime.js"))
WAIT_SECONDS = 40.0

# The first release with a WebSocket and with ES modules in `.js` files.
OLDEST_NODE = (20, 10)


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a minimal environment and a timeout."""
    environment = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return subprocess.run(
        command,
        cwd=HERE,
        env=environment | {"NODE_NO_WARNINGS": "1"} | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )


@pytest.fixture(scope="module")
def node() -> list[str]:
    """The installed Node, with the flags that its release needs."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("no node on PATH: install Node 22 or newer")
    release = run([path, "--version"]).stdout.strip()
    found = re.fullmatch(r"v(\d+)\.(\d+)\..+", release)
    if found is None or (version := (int(found[1]), int(found[2]))) < OLDEST_NODE:
        pytest.skip(f"node is {release}: it has no WebSocket, install Node 22 or newer")
    command = [path]
    if version < (22, 0):
        command.append("--experimental-websocket")
    if version < (22, 7):
        command.append("--experimental-detect-module")
    return command


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of the scripted server."""
    with scripted_server({}, "default-src 'none'") as address:
        yield address


def test_the_scenarios_pass_in_node(
    node: list[str], address: str, server: Server, room: str
) -> None:
    finished = run(
        [*node, "--test", "--test-reporter=tap", "realtime.test.js"],
        CLIENT=CLIENT.as_uri(),
        SERVER=address,
        SERVICE=server.url,
        ROOM=f"{server.ws_url}/{room}",
    )
    assert finished.returncode == 0, finished.stdout
    passed = re.search(r"^# pass (\d+)$", finished.stdout, re.MULTILINE)
    assert passed is not None, finished.stdout
    assert int(passed[1]) > 80, finished.stdout


@pytest.mark.parametrize("way", ["connecting", "open", "waiting", "terminal"])
def test_node_exits_when_the_client_is_closed(
    node: list[str], address: str, way: str, room: str
) -> None:
    url = f"{address.replace('http:', 'ws:')}/ws/{room}"
    finished = run([*node, "end.js", CLIENT.as_uri(), url, way])
    assert (finished.returncode, finished.stdout) == (0, f"closed: {way}\n")

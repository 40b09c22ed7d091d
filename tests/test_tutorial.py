"""The tutorial works: its commands are run, its code blocks are written into the named files."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.address import address

from .support.blocks import steps_of, write_block
from .support.cluster import ChatClient

BOUND_SECONDS = 1200
WAIT_SECONDS = 240.0
CONTAINER_ENGINE = Path(__file__).with_name("support") / "container_engine.py"

ADDRESS = "127.0.0.1:8000"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the container engine of the tests needs /proc"
)


@pytest.fixture
def follower(
    root: Path,
    tmp_path: Path,
    environment: dict[str, str],
    project_python: Path,
    free_port: Callable[[], int],
) -> Iterator["Follower"]:
    """A follower of the tutorial in an empty folder, with all required programs on PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    engine = tmp_path / "engine"
    engine.mkdir()
    docker = programs / "docker"
    docker.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{CONTAINER_ENGINE}" "$@"\n', "ascii")
    docker.chmod(0o755)
    (programs / "cookiecutter").symlink_to(Path(sys.executable).with_name("cookiecutter"))
    environment |= {
        "PATH": os.pathsep.join([str(programs), str(project_python.parent), environment["PATH"]]),
        "CONTAINER_ENGINE_HOME": str(engine),
    }
    port = free_port()
    follower = Follower(tmp_path, environment | {"APP_PORT": str(port)}, root, port)
    try:
        yield follower
    finally:
        follower.stop()
        for file in engine.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read_text("ascii")), signal.SIGKILL)


class Follower:
    """Carries out the tutorial's steps, and keeps the folder and the environment between them.

    Two things differ from the text: the place of the template and the port.
    """

    def __init__(self, folder: Path, environment: dict[str, str], root: Path, port: int) -> None:
        self.folder, self.environment, self.root, self.port = folder, environment, root, port
        self.home = folder
        self.printed = ""
        self.server: subprocess.Popen[bytes] | None = None

    def localized(self, text: str) -> str:
        local = text.replace(f"gh:{address()}", f"'{self.root}'")
        return local.replace(ADDRESS, f"127.0.0.1:{self.port}")

    def run(self, commands: str) -> None:
        """Run a block of commands; their folder and exported variables persist."""
        state = self.home / "state.json"
        save_state = (
            f"'{sys.executable}' -c 'import json, os, sys;"
            f' json.dump([os.getcwd(), dict(os.environ)], open(sys.argv[1], "w"))\' "{state}"'
        )
        finished = subprocess.run(
            ["bash", "-euc", f"{self.localized(commands)}\n{save_state}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BOUND_SECONDS / 2,
        )
        self.printed = finished.stdout
        assert finished.returncode == 0, f"{commands}\n{self.printed}"
        folder, self.environment = json.loads(state.read_text("utf-8"))
        self.folder = Path(folder)

    def serve(self, command: str) -> None:
        """Start a server, and wait until it listens."""
        log = self.home / "server.log"
        with log.open("wb") as output:
            self.server = subprocess.Popen(
                ["bash", "-euc", command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + WAIT_SECONDS
        while f"running on http://127.0.0.1:{self.port}" not in log.read_text("utf-8"):
            assert self.server.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.05)

    def stop(self) -> None:
        """Send SIGINT to all processes of the server, as Ctrl+C in a terminal does."""
        if self.server is None:
            return
        server, self.server = self.server, None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(WAIT_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)

    async def chat(self, names: list[str]) -> None:
        """Let two users chat in the room general, as in two windows."""
        first, second = (ChatClient(name, self.port) for name in names)
        async with asyncio.timeout(WAIT_SECONDS):
            await first.connect()
            await second.connect()
            await first.receive("serverUserJoined", user=second.user)
            await first.socket.send('{"type": "clientStartTyping", "payload": {}}')
            await second.receive("serverUserTyping", user=first.user, isTyping=True)
            await first.send_text("Ahoy!")
            for client in (first, second):
                await client.receive("serverNewMessage", user=first.user, text="Ahoy!")
            await second.socket.close()
            await first.receive("serverUserLeft", user=second.user)
            await first.socket.close()

    def follow(self, step: str, block: str) -> None:
        """Carry out one step.

        Raises:
            ValueError: The step is unknown.
        """
        if step == "run":
            self.run(block)
        elif step == "serve":
            self.serve(block)
        elif step == "stop":
            self.stop()
        elif users := re.fullmatch(r"chat of (\w+) and (\w+)", step):
            asyncio.run(self.chat([*users.groups()]))
        elif step == "prints":
            assert self.printed == block
        elif step == "prints the line":
            assert block in self.printed
        elif step == "prints like":
            pattern = re.sub(r"\d+", r"\\d+", re.escape(block.strip()))
            assert re.search(f"^{pattern}$", self.printed, re.MULTILINE), self.printed
        elif not write_block(self.folder, step, self.localized(block)):
            raise ValueError(f"unknown step of the tutorial: {step}")


def test_every_block_of_the_tutorial_has_a_step(root: Path) -> None:
    text = (root / "docs/tutorial.md").read_text("utf-8")
    assert len(re.findall(r"^```\w", text, re.MULTILINE)) == len(
        [block for _, block in steps_of(text) if block]
    )
    assert text.count("```sh\n") == len(re.findall(r"^<!-- (?:run|serve) -->", text, re.MULTILINE))


@pytest.mark.timeout(BOUND_SECONDS)
def test_tutorial_works_from_start_to_end(root: Path, follower: Follower) -> None:
    for step, block in steps_of((root / "docs/tutorial.md").read_text("utf-8")):
        follower.follow(step, block)
    last = subprocess.run(
        ["git", "log", "--format=%s"],
        cwd=follower.folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert last.stdout.splitlines() == ["Cheers and voyages", "As it came"]
    assert not list(follower.home.glob("engine/*.pid")), "all containers are stopped"
    logged = (follower.home / "engine/ship-talk.log").read_text("utf-8")
    assert "Application shutdown complete." in logged
    assert "Traceback" not in logged

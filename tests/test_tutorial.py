"""The tutorial works: each of its commands is run, and each of its blocks of code goes where it says."""

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

BOUND_SECONDS = 600
WAIT_SECONDS = 240.0
ENGINE = Path(__file__).with_name("engine.py")

# A comment that readers do not see, then what it is about; without a block it stands alone.
STEP = re.compile(r"^<!-- ([^\n]+) -->\n(?:```\w+\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
ADDRESS = "127.0.0.1:8000"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the containers' stand-in needs /proc"
)


@pytest.fixture
def reader(
    root: Path,
    tmp_path: Path,
    environment: dict[str, str],
    lent_python: Path,
    free_port: Callable[[], int],
) -> Iterator["Reader"]:
    """Somebody who follows the tutorial in a folder of their own, and has all that it asks for."""
    programs = tmp_path / "programs"
    programs.mkdir()
    engine = tmp_path / "engine"
    engine.mkdir()
    docker = programs / "docker"
    docker.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ENGINE}" "$@"\n', "ascii")
    docker.chmod(0o755)
    (programs / "cookiecutter").symlink_to(Path(sys.executable).with_name("cookiecutter"))
    environment |= {
        "PATH": os.pathsep.join([str(programs), str(lent_python.parent), environment["PATH"]]),
        "ENGINE_HOME": str(engine),
    }
    port = free_port()
    reader = Reader(tmp_path, environment | {"APP_PORT": str(port)}, root, port)
    try:
        yield reader
    finally:
        reader.stop()
        for file in engine.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read_text("ascii")), signal.SIGKILL)


class Reader:
    """Does what the tutorial says, and remembers where that has led.

    Two things are other than written: where the template is, and the port.
    """

    def __init__(self, folder: Path, environment: dict[str, str], root: Path, port: int) -> None:
        self.folder, self.environment, self.root, self.port = folder, environment, root, port
        self.home = folder
        self.printed = ""
        self.serving: subprocess.Popen[bytes] | None = None

    def here(self, text: str) -> str:
        own = text.replace("gh:org/pachinko-template", f"'{self.root}'")
        return own.replace(ADDRESS, f"127.0.0.1:{self.port}")

    def run(self, commands: str) -> None:
        """Run a block of commands; the folder and what they export stay."""
        state = self.home / "state.json"
        remember = (
            f"'{sys.executable}' -c 'import json, os, sys;"
            f' json.dump([os.getcwd(), dict(os.environ)], open(sys.argv[1], "w"))\' "{state}"'
        )
        finished = subprocess.run(
            ["bash", "-euc", f"{self.here(commands)}\n{remember}"],
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
        """Start what serves, and wait until it does."""
        log = self.home / "served.log"
        with log.open("wb") as output:
            self.serving = subprocess.Popen(
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
            assert self.serving.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.05)

    def stop(self) -> None:
        """Press Ctrl+C, which all processes of a terminal get."""
        if self.serving is None:
            return
        serving, self.serving = self.serving, None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(serving.pid, signal.SIGINT)
        try:
            serving.wait(WAIT_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(serving.pid, signal.SIGKILL)

    def write(self, path: str, place: str, text: str) -> None:
        """Put a block into a file, before or behind the only place that has some text, or in its stead."""
        file = self.folder / path
        written = file.read_text("utf-8")
        where, _, anchor = place.partition(" ")
        anchor = json.loads(anchor)
        assert anchor in written, f"{path} has no {anchor!r}"
        before, _, after = written.partition(anchor)
        if where == "above":
            written = before + text + anchor + after
        elif where == "below":
            assert after.startswith("\n"), f"{anchor!r} is not a whole line of {path}"
            written = f"{before}{anchor}\n{text}{after[1:]}"
        else:
            assert where == "instead", where
            written = before + text.removesuffix("\n") + after
        file.write_text(written, "utf-8")

    def follow(self, step: str, block: str) -> None:
        """Do one step.

        Raises:
            ValueError: Nobody has said how.
        """
        if step == "run":
            self.run(block)
        elif step == "serve":
            self.serve(block)
        elif step == "stop":
            self.stop()
        elif step == "prints":
            assert self.printed == block
        elif step == "prints like":
            pattern = re.sub(r"\d+", r"\\d+", re.escape(block.strip()))
            assert re.search(f"^{pattern}$", self.printed, re.MULTILINE), self.printed
        elif new := re.fullmatch(r"new (\S+)", step):
            path = self.folder / new[1]
            assert not path.exists(), path
            path.write_text(self.here(block), "utf-8")
        elif end := re.fullmatch(r"at the end of (\S+)", step):
            with (self.folder / end[1]).open("a", encoding="utf-8") as file:
                file.write(block)
        elif inside := re.fullmatch(r"in (\S+) (above|below|instead) (?:of )?(\".+\")", step):
            self.write(inside[1], f"{inside[2]} {inside[3]}", block)
        else:
            raise ValueError(f"the tutorial has a step that nobody knows: {step}")


def test_every_block_of_the_tutorial_says_what_it_is_for(root: Path) -> None:
    text = (root / "docs/tutorial.md").read_text("utf-8")
    assert len(re.findall(r"^```\w", text, re.MULTILINE)) == len(
        [block for _, block in STEP.findall(text) if block]
    )
    assert text.count("```sh\n") == len(re.findall(r"^<!-- (?:run|serve) -->", text, re.MULTILINE))


@pytest.mark.timeout(BOUND_SECONDS)
def test_the_tutorial_works_from_its_first_line_to_its_last(root: Path, reader: Reader) -> None:
    for step, block in STEP.findall((root / "docs/tutorial.md").read_text("utf-8")):
        reader.follow(step, block)
    last = subprocess.run(
        ["git", "log", "--format=%s"], cwd=reader.folder, capture_output=True, text=True, timeout=30
    )
    assert last.stdout.splitlines() == ["Cheers and voyages", "As it came"]
    assert not list(reader.home.glob("engine/*.pid")), "what was started was stopped"
    logged = (reader.home / "engine/ship-talk.log").read_text("utf-8")
    assert "Application shutdown complete." in logged
    assert "Traceback" not in logged

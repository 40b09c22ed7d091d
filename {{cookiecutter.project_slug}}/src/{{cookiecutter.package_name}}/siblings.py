"""The other worker processes of this process's server, which share its listening sockets."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

PROCESSES = Path("/proc")

# A server starts its workers together. An older sibling is the worker that this one replaces, such as after
# Gunicorn's SIGHUP, and ends soon.
START_SECONDS = 5.0


def count_siblings() -> int:
    """Return how many processes of the same parent, as old as this one, have one of its servers' sockets open.

    It needs Linux's ``/proc``: the result is 0 without it, and does not include a process whose files this user
    may not see.
    """
    try:
        own_sockets = bound_sockets()
        # PERF: uvicorn with one process binds after this, so most services read no other process.
        if not own_sockets:
            return 0
        parent, started = read_stat(os.getpid())
        processes = [int(path.name) for path in PROCESSES.iterdir() if path.name.isdecimal()]
    except OSError:
        return 0
    found = 0
    for process in processes:
        try:
            stat = read_stat(process)
            is_sibling = stat[0] == parent and process != os.getpid()
            if is_sibling and abs(stat[1] - started) < START_SECONDS:
                found += bool(own_sockets & sockets_of(process))
        except OSError:  # it has ended, or belongs to another user
            continue
    return found


def read_stat(process: int) -> tuple[int, float]:
    """Return the parent of a process, and the time of its start in seconds after the boot (proc_pid_stat(5)).

    Raises:
        OSError: The process does not exist.
    """
    # NOTE: the name of the program, in parentheses, may contain anything.
    stat = (PROCESSES / str(process) / "stat").read_text("utf-8", "replace")
    fields = stat.rpartition(")")[2].split()
    return int(fields[1]), int(fields[19]) / os.sysconf("SC_CLK_TCK")


def sockets_of(process: int) -> set[str]:
    """Return the inodes of the sockets that a process has open.

    Raises:
        OSError: The process does not exist, or belongs to another user.
    """
    found = set()
    for file in (PROCESSES / str(process) / "fd").iterdir():
        try:
            target = os.readlink(file)
        except OSError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            found.add(target[len("socket:[") : -1])
    return found


def bound_sockets() -> set[str]:
    """Return the inodes of this process's stream sockets that are bound and not connected.

    These listen, or will: Hypercorn's workers begin to after the application has started.
    """
    found = set()
    for descriptor in [int(file.name) for file in (PROCESSES / str(os.getpid()) / "fd").iterdir()]:
        try:
            copy = os.dup(descriptor)
        except OSError:  # closed meanwhile
            continue
        try:
            with socket.socket(fileno=copy) as each:
                if each.type == socket.SOCK_STREAM and is_bound(each) and not is_connected(each):
                    found.add(str(os.fstat(copy).st_ino))
        except OSError:  # it is no socket
            with contextlib.suppress(OSError):
                os.close(copy)
    return found


def is_bound(each: socket.socket) -> bool:
    """Return whether a socket has an address."""
    name = each.getsockname()
    return bool(name[1]) if isinstance(name, tuple) else bool(name)


def is_connected(each: socket.socket) -> bool:
    """Return whether a socket has a peer."""
    try:
        each.getpeername()
    except OSError:
        return False
    return True

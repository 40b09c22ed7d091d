"""Stopping the server of this process so that the process exits with status 1."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

# NOTE: an event loop holds only weak references to tasks.
exit_tasks: set[asyncio.Task[Any]] = set()


def stop_server() -> None:
    """Stop the server of this process in order, so that the process exits with status 1.

    A server that is starting stops afterwards. If nothing handles SIGTERM, as in hypercorn's worker
    processes, the event loop ends at once: ``asyncio.run`` cancels all tasks.

    Raises:
        SystemExit: Nothing handles SIGTERM.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if handler in (signal.SIG_DFL, signal.SIG_IGN):
        raise SystemExit(1)
    fail_on_exit(asyncio.Event().wait())
    server: Any = getattr(handler, "__self__", None)
    if hasattr(server, "should_exit"):
        # NOTE: after a SIGTERM uvicorn raises the signal again at its end. systemd takes that for a regular
        #   stop, and process 1 of a container survives it and exits with status 0.
        server.should_exit = True
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def fail_on_exit(operation: Coroutine[Any, Any, Any]) -> None:
    """Exit with status 1 if an operation is still running when ``asyncio.run`` cancels all tasks."""
    task = asyncio.create_task(operation, name="exit status")
    exit_tasks.add(task)
    task.add_done_callback(on_exit_task_done)


def on_exit_task_done(task: asyncio.Task[Any]) -> None:
    """Raise SystemExit in a callback: asyncio would report a failing task."""
    exit_tasks.discard(task)
    if task.cancelled():
        raise SystemExit(1)

"""The interface of a running application, in-process or on a port."""

from __future__ import annotations

import asyncio
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Unpack

from ..support import exit_status
from .client import Client
from .handshake import Handshake

# The bound of the startup, and of the shutdown.
LIFESPAN_SECONDS = 15.0

# Options that run() and serve() pass to uvicorn.
UVICORN_SETTINGS: dict[str, Any] = {
    "lifespan": "on",
    "log_level": "warning",
    "timeout_graceful_shutdown": 5,
    "ws": "websockets-sansio",
}


class Running(ABC):
    """A running application: the result of :func:`run` and :func:`serve`."""

    @property
    @abstractmethod
    def origin(self) -> str:
        """The ``Origin`` header of the application's own pages."""

    @abstractmethod
    def connect(
        self, path: str, **options: Unpack[Handshake]
    ) -> AbstractAsyncContextManager[Client]:
        """Connect a client, and close its connection at the end.

        Args:
            path: The path with an optional query, such as ``/ws/chat/general?user=Alice``.
            options: ``headers``, ``cookies``, ``subprotocols``, ``origin``, ``small_buffer`` and
                ``timeout_seconds``; see :func:`connect`.

        Raises:
            Refused: The application rejected the handshake with an HTTP status.
            TimeoutError: The application did not respond.
            ValueError: The path does not begin with "/".
            TypeError: An option is unknown.
        """

    @abstractmethod
    def stop(self) -> None:
        """Stop as on SIGTERM: close every connection with 1012 and refuse new ones."""


@contextmanager
def stop_on_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """Stop the application on SIGTERM and fail the test, instead of ending the test run.

    A failed worker sends the signal to its own process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread handles signals
        return
    loop = asyncio.get_running_loop()
    requested = False
    reason = "the application requested a shutdown (SIGTERM), as after the failure of a worker"

    def on_signal(*_: object) -> None:
        nonlocal requested
        requested = True
        loop.call_soon_threadsafe(stop)

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    except BaseException as error:
        if requested:
            error.add_note(reason)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        # NOTE: the test fails, so the process must not end.
        for task in tuple(exit_status.exit_tasks):
            task.remove_done_callback(exit_status.on_exit_task_done)
            exit_status.exit_tasks.discard(task)
            task.cancel()
    if requested:
        raise RuntimeError(f"{reason}: see the log")

"""What a test has of an application that is running, in the process or behind a port."""

from __future__ import annotations

import asyncio
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Unpack

from .. import workers
from .client import Client
from .handshake import Handshake

# How long an application may take to start, and to stop.
STEP_SECONDS = 15.0

# What run() and serve() tell uvicorn.
SETTINGS: dict[str, Any] = {
    "lifespan": "on",
    "log_level": "warning",
    "timeout_graceful_shutdown": 5,
    "ws": "websockets-sansio",
}


class Running(ABC):
    """An application that is running: what :func:`run` and :func:`serve` have in common."""

    @property
    @abstractmethod
    def origin(self) -> str:
        """What a browser says about a page that the application itself has served."""

    @abstractmethod
    def connect(
        self, path: str, **options: Unpack[Handshake]
    ) -> AbstractAsyncContextManager[Client]:
        """Connect a client; at the end its connection is closed.

        Args:
            path: The path and perhaps a query, such as ``/ws/chat/general?user=Alice``.
            options: ``headers``, ``cookies``, ``subprotocols``, ``origin``, ``small_buffer`` and
                ``timeout_seconds``, as :func:`connect` explains them.

        Raises:
            Refused: The application answered with an HTTP status instead of accepting.
            TimeoutError: It did not answer.
            ValueError: The path does not begin with "/".
            TypeError: There is no such option.
        """

    @abstractmethod
    def stop(self) -> None:
        """Stop as SIGTERM does: every connection is closed with 1012, and nobody can connect any more."""


@contextmanager
def sigterm_stops(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM stop the application and fail the test, instead of ending all tests.

    A worker that dies sends it to its own process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's affair
        return
    loop = asyncio.get_running_loop()
    asked = False
    story = "the application has asked its server to stop (SIGTERM), as the death of a worker does"

    def on_signal(*_: object) -> None:
        nonlocal asked
        asked = True
        loop.call_soon_threadsafe(stop)

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    except BaseException as error:
        if asked:
            error.add_note(story)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        # NOTE: it is the test that fails, not the process.
        for ending in tuple(workers.endings):
            ending.remove_done_callback(workers.on_ending)
            workers.endings.discard(ending)
            ending.cancel()
    if asked:
        raise RuntimeError(f"{story}: the log says why")

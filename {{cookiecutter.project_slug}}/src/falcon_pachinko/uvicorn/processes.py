"""uvicorn's supervisor of several processes, each with a draining server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.server import HANDLED_SIGNALS
from uvicorn.supervisors import multiprocess

TICK_SECONDS = 0.05
# As in uvicorn: Windows has no SIGTERM for other processes.
STOP_SIGNAL = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)
# The signal by which the supervisor passes on that it has received a second one; Windows has only one that ends a process.
HURRY_SIGNAL = getattr(signal, "SIGUSR2", signal.SIGTERM)

# A picklable function: other processes call it, with the configuration. It makes a server with a method hurry().
MakeServer = Callable[..., Any]


class StopFlag:
    """A ``threading.Event`` without a lock, which a signal handler may set while its thread waits for it."""

    def __init__(self) -> None:
        self.flag = False

    def is_set(self) -> bool:
        """Return whether it has been set."""
        return self.flag

    def set(self) -> None:
        """Set it."""
        self.flag = True

    def wait(self, timeout: float) -> bool:
        """Wait until it is set, or for so many seconds; return whether it is."""
        end = time.monotonic() + timeout
        while not self.flag and time.monotonic() < end:
            time.sleep(TICK_SECONDS)
        return self.flag


class WorkerProcess(multiprocess.Process):
    """One of several processes, with a draining server.

    Args:
        config: uvicorn's configuration.
        sockets: The listening sockets.
        make_server: Creates the server, in the process.
        stop: Set in the supervisor's process when all processes stop.
    """

    def __init__(
        self, config: Config, sockets: list[socket.socket], make_server: MakeServer, stop: StopFlag
    ) -> None:
        super().__init__(config, sockets)
        self.make_server, self.stop = make_server, stop

    # In the process.

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Run in the process."""
        # NOTE: made before uvicorn's thread that answers the supervisor asks for it.
        self._server = self.make_server(self.config, supervised=True)
        signal.signal(HURRY_SIGNAL, self.on_hurry)
        if sys.platform != "win32":
            # The supervisor restarts the processes; its signal may reach all of its group.
            signal.signal(signal.SIGHUP, lambda *_: None)
        super().target(sockets)

    def on_hurry(self, sig: int, frame: FrameType | None) -> None:
        """Handle the signal of the supervisor: end the drain, or a start, which has no clients yet."""
        server: Any = self.server
        if not server.started:
            os._exit(STARTUP_FAILURE)
        server.hurry()

    # In the supervisor's process.

    def start(self) -> None:
        """Start the process; let it stop if all do so by now."""
        super().start()
        # NOTE: while the supervisor has this end, too, the end of the process is no end of the pipe.
        self.child_conn.close()
        if self.stop.is_set():
            self.terminate()

    def terminate(self) -> None:
        """Let the process stop, with a drain."""
        # NOTE: uvicorn's method closes the pipe, so that a process which answers would seem to hang, and be killed.
        self.send_signal(STOP_SIGNAL)

    def hurry(self) -> None:
        """End the drain."""
        self.send_signal(HURRY_SIGNAL)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process if it runs."""
        if self.pid is not None and self.exitcode is None:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill a process that does not answer or start; let one drain that serves while all processes stop."""
        if not (self.stop.is_set() and self.serves()):
            super().kill()

    def serves(self) -> bool:
        """Return whether the process has started and answers."""
        with contextlib.suppress(OSError, EOFError):
            while self.parent_conn.poll():
                self.parent_conn.recv()  # an answer to an earlier question
        return self.is_ready(self.config.timeout_worker_healthcheck)

    def join(self) -> None:
        """Wait until the process has ended, or until all processes stop."""
        while self.exitcode is None and not self.stop.is_set():
            self.process.join(TICK_SECONDS)


class Supervisor(multiprocess.Multiprocess):
    """uvicorn's supervisor of several processes, which drain; a second signal ends their drains.

    Attributes:
        has_signal: Whether a signal has ended it, and not the failed start of a process.
        started: All processes that may run, those included that uvicorn's supervisor is about to add or to remove.

    Args:
        config: uvicorn's configuration.
        sockets: The listening sockets.
        make_server: Creates the server of a process.
    """

    def __init__(
        self, config: Config, sockets: list[socket.socket], make_server: MakeServer
    ) -> None:
        super().__init__(config, sockets)
        self.make_server = make_server
        self.started: list[WorkerProcess] = []
        self.should_exit: Any = StopFlag()
        self.has_signal = False
        # NOTE: uvicorn's supervisor looks for signals twice a second, and not while it waits for a process.
        for each in HANDLED_SIGNALS:
            signal.signal(each, self.on_signal)

    def run(self) -> None:
        """Run the processes until a signal."""
        # NOTE: uvicorn's supervisor has no parameter for the class of its processes.
        original: Any = multiprocess.Process
        multiprocess.Process = self.make_process  # type: ignore[assignment,misc]
        try:
            super().run()
        finally:
            multiprocess.Process = original  # type: ignore[misc]

    def make_process(self, config: Config, sockets: list[socket.socket]) -> WorkerProcess:
        """Create a process."""
        process = WorkerProcess(config, sockets, self.make_server, self.should_exit)
        self.started = [each for each in self.started if each.exitcode is None] + [process]
        return process

    def terminate_all(self) -> None:
        """Let all processes stop."""
        # NOTE: clients that connect when the last process has closed its copy would wait in the queue of this one.
        for each in self.sockets:
            each.close()
        for process in self.started:
            process.terminate()

    def join_all(self) -> None:
        """Wait until all processes have ended."""
        for process in self.started:
            if process.pid is not None:
                process.process.join()

    def on_signal(self, sig: int, frame: FrameType | None) -> None:
        """Let all processes stop, also while a restart waits for one of them; a second signal ends their drains."""
        self.should_exit.set()
        for each in self.started:
            each.terminate()
            if self.has_signal:
                each.hurry()
        self.has_signal = True

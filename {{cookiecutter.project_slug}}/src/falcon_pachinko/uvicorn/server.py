"""uvicorn's server with a drain: before it stops, its clients move to other nodes, in one process or in several."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.supervisors import ChangeReload

from ..server.drain import DRAIN_STATE, DrainExtension, DrainPolicy
from .processes import Supervisor
from .write_batch import WRITE_BATCHES

if TYPE_CHECKING:
    from .ring import Ring

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.05
AT_ONCE = DrainPolicy()


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which drains the process between the signal to stop and uvicorn's own shutdown.

    At the signal the application reports that it is not ready. It takes clients for ``delay_seconds`` more. Then the
    listening sockets and idle HTTP connections are closed, and the WebSocket connections over ``seconds``. A second
    signal ends the drain: all that is left is closed at once.

    Args:
        config: uvicorn's configuration.
        policy: How to drain.
        supervised: Whether a supervisor decides which signal is the second one: a worker gets the signals of a
            terminal or of systemd from both.
        io_uring: Whether rooms are written through io_uring, where the system permits it.
    """

    def __init__(
        self,
        config: Config,
        policy: DrainPolicy = AT_ONCE,
        *,
        supervised: bool = False,
        io_uring: bool = False,
    ) -> None:
        super().__init__(config)
        self.policy = policy
        self.io_uring = io_uring
        self.ring: Ring | None = None
        self.supervised = supervised
        self.drain: DrainExtension | None = None
        self.has_drained = policy.delay_seconds == policy.seconds == 0
        self.hurried = False
        self.ticks = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and take what it offers for a drain."""
        if self.io_uring:
            from .ring import open_ring

            self.ring = WRITE_BATCHES.of(asyncio.get_running_loop()).ring = open_ring()
        await super().startup(sockets)
        # NOTE: removed, because each connection gets a copy of the state.
        self.drain = self.lifespan.state.pop(DRAIN_STATE, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal: begin the drain, or end it."""
        if self.should_exit and self.supervised:
            return
        if self.should_exit and not self.has_drained:
            self._captured_signals.append(sig)
            self.hurry()
            return
        super().handle_exit(sig, frame)
        if self.drain is not None:
            self.drain.begin()

    def hurry(self) -> None:
        """End the drain."""
        self.hurried = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then shut down as uvicorn does."""
        self.should_exit = True
        if self.drain is not None:
            self.drain.begin()
            if not self.has_drained:
                await self._drain(self.drain, sockets or ())
        self.has_drained = True
        try:
            await super().shutdown(sockets)
        finally:
            if self.ring is not None:
                self.ring.close()

    async def _drain(self, drain: DrainExtension, sockets: Sequence[socket.socket]) -> None:
        now, delay_seconds = asyncio.get_running_loop().time, self.policy.delay_seconds
        if delay_seconds:
            logger.info("not ready any more; clients are taken for %g s", delay_seconds)
        begun = now()
        while now() - begun < delay_seconds and not self.hurried:
            await self._tick()
        if not self.policy.seconds:
            return
        for server in self.servers:
            server.close()
        for each in sockets:
            each.close()
        for connection in list(self.server_state.connections):
            if isinstance(connection, self.config.http_protocol_class):
                connection.shutdown()
        drain.plan(self.policy)
        begun = now()
        while drain.advance(now() - begun) and not self.hurried:
            await self._tick()
        drain.close_rest(now() - begun)
        # NOTE: uvicorn would close those without a reason whose close frames have not been written.
        await self._tick()

    async def _tick(self) -> None:
        """Wait a little, and do what uvicorn's server does meanwhile, such as the header ``Date``."""
        await asyncio.sleep(TICK_SECONDS)
        self.ticks += 1
        await self.on_tick(self.ticks)


def run(
    app: Any,
    *,
    drain: DrainPolicy = AT_ONCE,
    sockets: Sequence[socket.socket] = (),
    io_uring: bool = False,
    **options: Any,
) -> None:
    """Serve an application like ``uvicorn.run``, with a drain at its end.

    Args:
        app: The application, made by ``install``; with several ``workers`` its import string.
        drain: How to drain.
        sockets: Listening sockets, such as those of systemd; by default one is bound to ``host`` and ``port``.
        io_uring: Whether one system call writes to all members of a room, where the system permits io_uring; otherwise
            a line is logged (see :mod:`.ring`).
        options: Options of ``uvicorn.Config``.

    Raises:
        SystemExit: The server has not started.
    """
    config = Config(app, **options)
    make_server = functools.partial(DrainingServer, policy=drain, io_uring=io_uring)
    server = make_server(config)
    try:
        if config.should_reload or config.workers > 1:
            listening = [*sockets] or [config.bind_socket()]
            # NOTE: clients wait while the processes start, and are not refused.
            for each in listening:
                each.listen(config.backlog)
            if config.should_reload:
                ChangeReload(config, target=server.run, sockets=listening).run()
            else:
                supervisor = Supervisor(config, listening, make_server)
                supervisor.run()
                if not supervisor.has_signal:  # a process has failed to start
                    sys.exit(STARTUP_FAILURE)
        else:
            server.run([*sockets] or None)
    except KeyboardInterrupt:
        pass
    if config.workers == 1 and not (server.started or config.should_reload):
        sys.exit(STARTUP_FAILURE)

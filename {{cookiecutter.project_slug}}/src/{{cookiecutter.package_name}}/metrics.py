"""The metrics of this service: the numbers of all its processes, and who may read them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from falcon_pachinko import App, ConfigurationError
from falcon_pachinko.rooms.metrics import AppMetrics
from falcon_pachinko.server.exposition import Exposition
from falcon_pachinko.server.metrics import merge

from .contract import VERSION
from .metrics_port import MetricsPort
from .processes import count_by_command
from .settings import Settings
from .snapshots import SNAPSHOT_SECONDS, Snapshots

logger = logging.getLogger(__name__)

FOLDER = "metrics"


def has_metrics(settings: Settings) -> bool:
    """Return whether metrics are served."""
    return bool(settings.metrics_port or settings.metrics_token.get_secret_value())


class ServiceMetrics:
    """The metrics of an application, read over its own port, over a port of their own, or over both.

    Args:
        app: The application, with all routes for connections.
        settings: The settings; ``metrics_port`` or ``metrics_token`` is set.

    Raises:
        ConfigurationError: The extra ``metrics`` is not installed.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        self.exposition = Exposition()
        self.numbers = AppMetrics(app, VERSION)
        self.host, self.port_number = settings.host, settings.metrics_port
        self.token = settings.metrics_token.get_secret_value()
        self.port = MetricsPort(self.text, self.token)
        self.snapshots: Snapshots | None = None
        if max(settings.workers, count_by_command()) > 1 and settings.state_folder:
            self.snapshots = Snapshots(Path(settings.state_folder, FOLDER))
        self.written = self.numbers.measure()
        self.has_failed = False

    def text(self) -> bytes:
        """Return the numbers of all processes in the text format of Prometheus."""
        if self.snapshots is None:
            return self.exposition.text(merge([self.numbers.measure()], []))
        # NOTE: not the numbers of now, which another process does not have: a sum that it returns next would be lower.
        living, ended = self.snapshots.read()
        return self.exposition.text(merge([self.written, *living], ended))

    async def run(self, app: App) -> AsyncIterator[None]:
        """Measure and serve while the application runs: one of its lifespan functions.

        Raises:
            ConfigurationError: The port is taken by another program.
        """
        self.numbers.loop_lag.start()
        await self._open()
        sharing = asyncio.create_task(self._share()) if self.snapshots is not None else None
        try:
            yield
        finally:
            self.numbers.loop_lag.stop()
            if sharing is not None:
                sharing.cancel()
                await asyncio.wait({sharing})
                self._write()
            await self.port.close()

    async def _open(self) -> None:
        """Serve the port, unless it is off or another process of this service serves it."""
        if not self.port_number or self.port.server is not None:
            return
        try:
            await self.port.open(self.host, self.port_number)
        except OSError as error:
            if self.snapshots is None:
                raise ConfigurationError(
                    f"APP_METRICS_PORT is {self.port_number}, which cannot be served ({error}): choose another port;"
                    " several processes share one only with an APP_STATE_FOLDER"
                ) from None

    async def _share(self) -> None:
        """Write the numbers of this process at an interval, and serve the port once its process has ended."""
        while True:
            self._write()
            await asyncio.sleep(SNAPSHOT_SECONDS)
            await self._open()

    def _write(self) -> None:
        """Write the numbers; log once that they cannot be written."""
        assert self.snapshots is not None
        self.written = self.numbers.measure()
        try:
            self.snapshots.write(self.written)
            with contextlib.suppress(OSError):
                self.snapshots.clean()
        except OSError as error:
            if not self.has_failed:
                self.has_failed = True
                logger.warning("the metrics are those of single processes: %s", error)

"""Traces with OpenTelemetry: the extra ``traces``, switched on by its standard variables, and imported only then.

OpenTelemetry reads all ``OTEL_*`` variables itself, from the environment, so they are no settings of :mod:`.settings`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from falcon_pachinko import App, ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger(__name__)

PACKAGE = __name__.partition(".")[0]

EXPORTER = "OTEL_TRACES_EXPORTER"
EXPORTERS = ("otlp", "console")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"

# The time that the end of the service gives to the last spans: a part of MARGIN_SECONDS of the stop.
FLUSH_SECONDS = 1.0


def open_traces() -> Traces | None:
    """Return the traces that the environment switches on: an exporter or an endpoint is set; else ``None``.

    Raises:
        ConfigurationError: The extra ``traces`` is not installed, or it has no such exporter or protocol.
    """
    exporter = variable(EXPORTER).lower()
    is_disabled = variable("OTEL_SDK_DISABLED").lower() == "true" or exporter == "none"
    if is_disabled or not (exporter or first_of(ENDPOINTS)):
        return None
    exporter = exporter or "otlp"
    if exporter not in EXPORTERS:
        raise ConfigurationError(
            f"{EXPORTER} is {exporter!r}: set {' or '.join(EXPORTERS)}, or none for no traces"
        )
    protocol = first_of(PROTOCOLS)
    if exporter == "otlp" and protocol not in ("", PROTOCOL):
        raise ConfigurationError(
            f"{PROTOCOLS[1]} is {protocol!r}: set {PROTOCOL}, which collectors receive on port 4318"
        )
    return Traces(exporter)


def variable(name: str) -> str:
    """Return a variable of the environment; empty if it is not set."""
    return os.environ.get(name, "").strip()


def first_of(names: tuple[str, ...]) -> str:
    """Return the first variable that is set; else an empty text."""
    return next(filter(None, map(variable, names)), "")


class Traces:
    """Makes spans, and sends them in a thread of its own.

    Attributes:
        hook: The hook around all handlers.

    Args:
        exporter: One of :data:`EXPORTERS`.

    Raises:
        ConfigurationError: The extra ``traces`` is not installed.
    """

    def __init__(self, exporter: str) -> None:
        try:
            import opentelemetry.exporter.otlp.proto.http  # noqa: F401
            from opentelemetry.sdk.trace import TracerProvider
        except ImportError:
            raise ConfigurationError(
                "traces are on, see OTEL_* in the environment, and need the extra 'traces', as in"
                " pip install -e '.[traces]'; OTEL_TRACES_EXPORTER=none switches them off"
            ) from None
        from falcon_pachinko.server.tracing import Tracing

        self.exporter = exporter
        # NOTE: run() ends it in order; its own way, at the exit of the process, has no useful bound.
        self.provider = TracerProvider(resource=make_resource(), shutdown_on_exit=False)
        self.hook = Tracing(self.provider)

    async def run(self, app: App) -> AsyncIterator[None]:
        """Send spans during the life of an application; at its end, those that are left.

        Raises:
            ConfigurationError: A value in the environment is not valid.
        """
        from opentelemetry import trace
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        try:
            # NOTE: if the queue, of 2,048 spans by default, is full, spans are dropped.
            self.provider.add_span_processor(BatchSpanProcessor(self.make_exporter()))
        except ValueError as error:
            raise ConfigurationError(f"traces, see OTEL_* in the environment: {error}") from error
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            # NOTE: the spans of libraries and of trace.get_tracer() join those of the handlers.
            trace.set_tracer_provider(self.provider)
        try:
            with self.hook.connect(app.ws_connection_manager.backend):
                yield
        finally:
            await self.flush()

    def make_exporter(self) -> SpanExporter:
        """Return a new exporter."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        if self.exporter == "otlp":
            return OTLPSpanExporter()
        return ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")

    async def flush(self) -> None:
        """Send the last spans, within a bound."""
        # NOTE: a daemon thread, because without a response the library waits for half a minute.
        thread = threading.Thread(target=self.provider.shutdown, daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, FLUSH_SECONDS)
        if thread.is_alive():
            logger.warning("the last spans are lost: no response within %d s", FLUSH_SECONDS)


def make_resource() -> Resource:
    """Return what describes this process in its spans; without a given name the service has that of the package."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: PACKAGE}))
    return resource

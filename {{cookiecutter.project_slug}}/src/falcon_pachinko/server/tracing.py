"""Traces with OpenTelemetry: a span for each handler, and for each delivery of what it publishes to other nodes.

Nothing imports this module where traces are off, and nothing else imports ``opentelemetry``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from ..backends.base import Backend
from ..connection.hooks import HandlerCall, NextHandler
from ..errors import ConfigurationError, InvalidPayload, MessageError, Reject
from ..publication import Publication

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

# The names of attributes: those of OpenTelemetry's semantic conventions, or else with this prefix.
OWN = "falcon_pachinko"


class Tracing:
    """A hook around handlers that makes spans, given to ``install(around=[...])`` as the first one.

    The span of a handler begins a trace; spans of the handler's own code are its children. It has the route, the
    message type, the handler and the id of the connection; never a payload, a user, a room or the text of an error.

    Args:
        provider: Makes the spans; by default the global one.

    Raises:
        ConfigurationError: ``opentelemetry-api`` is not installed.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        try:
            from opentelemetry import context, trace
            from opentelemetry.trace.propagation import tracecontext
        except ImportError:
            raise ConfigurationError(
                "traces need the package opentelemetry-api: pip install opentelemetry-api"
            ) from None
        self.trace = trace
        self.tracer = trace.get_tracer(OWN, tracer_provider=provider)
        self.no_context = context.Context()
        self.propagator = tracecontext.TraceContextTextMapPropagator()

    async def __call__(self, call: HandlerCall, next: NextHandler) -> Any:
        """Run a handler within a span; one that the sampler has dropped is not exported."""
        name = call.message_type or "binary"
        route = call.ws._route or type(call.resource).__qualname__
        with self.tracer.start_as_current_span(
            f"{route} {name}",
            # NOTE: a connection is no request: the span of its handshake, if there is one, has no part in it.
            context=self.no_context,
            kind=self.trace.SpanKind.SERVER,
            attributes={
                "messaging.system": "websocket",
                "messaging.operation.type": "process",
                "http.route": route,
                "code.function.name": call.handler,
                f"{OWN}.message.type": name,
                f"{OWN}.connection.id": call.ws.id,
            },
            # SECURITY: the text of an exception may contain what a client has sent.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await next(call)
            except BaseException as error:
                kind = type(error).__qualname__
                span.set_attribute("error.type", kind)
                if not isinstance(error, (MessageError, InvalidPayload, Reject)):
                    span.set_status(self.trace.StatusCode.ERROR, kind)
                raise

    @contextmanager
    def connect(self, backend: Backend) -> Iterator[None]:
        """Connect the spans of several nodes, for the length of the block, which is inside the life of the backend.

        What is published within a sampled span carries it to the nodes, over Redis or Valkey only; a delivery there
        is a span ``deliver``, a child of it. Nodes without traces ignore it.
        """
        if backend.single:
            yield
            return
        node: Any = backend.node
        # PERF: methods of these two objects, so that there is no test per message where traces are off.
        replaced = {
            (backend, "publish_nowait"): self._published(backend.publish_nowait, 1),
            (backend, "publish_direct"): self._published(backend.publish_direct, 0),
            (backend, "update"): self._published(backend.update, 2),
            (node, "deliver"): self._delivered(node.deliver),
            (node, "deliver_direct"): self._delivered(node.deliver_direct),
        }
        for (owner, name), method in replaced.items():
            setattr(owner, name, method)
        try:
            yield
        finally:
            for owner, name in replaced:
                delattr(owner, name)

    def _published(self, publish: Callable[..., Any], index: int) -> Callable[..., Any]:
        """Return a method that adds the current span to its publication, the argument at an index."""

        def publish_traced(*args: Any, **kwargs: Any) -> Any:
            context = self.trace.get_current_span().get_span_context()
            publication: Publication | None = args[index] if len(args) > index else None
            if publication is not None and context.is_valid and context.trace_flags.sampled:
                carrier: dict[str, str] = {}
                self.propagator.inject(carrier)
                publication.header = msgspec.structs.replace(
                    publication.header, traceparent=carrier["traceparent"]
                )
            return publish(*args, **kwargs)

        return publish_traced

    def _delivered(self, deliver: Callable[..., None]) -> Callable[..., None]:
        """Return a method that delivers its last argument within a span, if it carries one."""

        def deliver_traced(*args: Any) -> None:
            traceparent = getattr(args[-1], "traceparent", None)
            if traceparent is None:
                deliver(*args)
                return
            with self.tracer.start_as_current_span(
                "deliver",
                context=self.propagator.extract({"traceparent": traceparent}, self.no_context),
                kind=self.trace.SpanKind.CONSUMER,
                attributes={
                    "messaging.system": "websocket",
                    "messaging.operation.type": "receive",
                    "messaging.message.body.size": args[-1].size_bytes,
                },
            ):
                deliver(*args)

        return deliver_traced

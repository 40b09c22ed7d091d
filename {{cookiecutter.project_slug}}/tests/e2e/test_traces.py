"""Traces of services in processes of their own, sent to a collector."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ..conftest import PACKAGE
from ..valkey import running_valkey

if TYPE_CHECKING:
    from ..conftest import Server

WAIT_SECONDS = 20.0
TEXT = "a text of a client"
# Prints at its end what it has imported.
OBSERVED = f"""
import atexit, sys
from {PACKAGE}.__main__ import main
def report():
    print("traced by", [each for each in sys.modules if "opentelemetry" in each or "tracing" in each])
atexit.register(report)
main([])
"""


class Collector(ThreadingHTTPServer):
    """Receives spans with OTLP over HTTP.

    Attributes:
        spans: The spans, each with the name of its service.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: list[tuple[str, Span]] = []
        self.bodies = b""
        self.received = threading.Condition()

    def receive(self, body: bytes) -> None:
        with self.received:
            self.bodies += body
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                attributes = {each.key: each.value for each in resource.resource.attributes}
                name = attributes["service.name"].string_value
                for scope in resource.scope_spans:
                    self.spans += [(name, span) for span in scope.spans]
            self.received.notify_all()

    def find(self, service: str, name: str) -> Span | None:
        """Return the first span of a service whose name ends with a text."""
        found = [span for by, span in self.spans if by == service and span.name.endswith(name)]
        return found[0] if found else None


class Receiver(BaseHTTPRequestHandler):
    server: Collector  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        self.server.receive(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join(WAIT_SECONDS)


@pytest.mark.redis
async def test_a_delivery_on_another_node_belongs_to_the_span_of_the_handler(
    serve: Callable[..., Server], collector: Collector, room: str
) -> None:
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    with running_valkey() as valkey:
        servers = [
            serve(
                APP_BACKEND_URL=valkey.url,
                OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
                OTEL_SERVICE_NAME=name,
            )
            for name in ("one", "other")
        ]
        async with servers[0].join("Alice", room) as alice, servers[1].join("Bob", room) as bob:
            await alice.expect("serverUserJoined", user="Bob")
            await alice.send("clientSendMessage", {"text": TEXT})
            await bob.receive_until("serverNewMessage")
            await alice.receive_until("serverNewMessage")
        # NOTE: what is left is sent at the end of a service.
        for server in servers:
            server.stop()
    handler = collector.find("one", " clientSendMessage")
    assert handler is not None, collector.spans
    deliveries = [
        span for by, span in collector.spans if by == "other" and span.trace_id == handler.trace_id
    ]
    assert [span.name for span in deliveries] == ["deliver"]
    assert deliveries[0].parent_span_id == handler.span_id
    assert TEXT.encode() not in collector.bodies
    assert room.encode() not in collector.bodies


async def test_spans_are_printed_and_sampled_as_the_environment_says(
    serve: Callable[..., Server], room: str
) -> None:
    options = {"OTEL_TRACES_EXPORTER": "console"}
    for sampler, count in (("always_on", 1), ("always_off", 0)):
        server = serve(**options, OTEL_TRACES_SAMPLER=sampler)
        async with server.join("Alice", room) as alice:
            await alice.send("clientSendMessage", {"text": TEXT})
            await alice.receive_until("serverNewMessage")
        server.stop()
        assert server.output().count(' clientSendMessage"') == count, server.output()


async def test_a_collector_that_is_down_disturbs_neither_the_service_nor_its_end(
    serve: Callable[..., Server], room: str
) -> None:
    with Collector() as closed:
        endpoint = f"http://127.0.0.1:{closed.server_port}"
    server = serve(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    async with server.join("Alice", room) as alice:
        await alice.send("clientSendMessage", {"text": TEXT})
        await alice.receive_until("serverNewMessage")
    server.process.terminate()
    assert await server.wait_ended() == -signal.SIGTERM
    assert "Application shutdown complete" in server.output()


async def test_a_service_without_traces_imports_nothing_of_them(
    serve: Callable[..., Server], room: str
) -> None:
    server = serve("-c", OBSERVED)
    async with server.join("Alice", room) as alice:
        await alice.send("clientSendMessage", {"text": TEXT})
        await alice.receive_until("serverNewMessage")
    # NOTE: after SIGTERM uvicorn ends the process by the signal, without what is registered for its exit.
    server.process.send_signal(signal.SIGINT)
    assert await server.wait_ended() == 0
    assert "traced by []" in server.output()


async def test_a_wrong_exporter_ends_the_start_with_one_line(start: Callable[..., Server]) -> None:
    server = start(OTEL_TRACES_EXPORTER="zipkin")
    assert await server.wait_ended() == 1
    assert "OTEL_TRACES_EXPORTER is 'zipkin'" in server.output()

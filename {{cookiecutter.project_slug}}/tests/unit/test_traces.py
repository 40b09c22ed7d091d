"""Which variables switch traces on, and the bound of their end."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from opentelemetry.sdk.resources import SERVICE_NAME

from falcon_pachinko import ConfigurationError

from {{ cookiecutter.package_name }} import traces

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_SERVICE_NAME": "chat", "OTEL_TRACES_SAMPLER": "always_on"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "true"},
    ],
)
def test_traces_are_off(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, variables)
    assert traces.open_traces() is None


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        (ENDPOINT, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "otlp"),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "console"}, "console"),
    ],
)
def test_an_endpoint_or_an_exporter_switches_traces_on(
    variables: dict[str, str], exporter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, variables)
    found = traces.open_traces()
    assert found is not None
    assert found.exporter == exporter


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "set otlp or console"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "set http/protobuf"),
    ],
)
def test_a_value_that_is_not_supported_is_named(
    variables: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, variables)
    with pytest.raises(ConfigurationError, match=text):
        traces.open_traces()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, ENDPOINT)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(ConfigurationError, match="extra 'traces'"):
        traces.open_traces()


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, traces.PACKAGE),
        ({"OTEL_SERVICE_NAME": "chat"}, "chat"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=talk"}, "talk"),
    ],
)
def test_the_service_has_the_given_name_or_that_of_the_package(
    variables: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, variables)
    assert traces.make_resource().attributes[SERVICE_NAME] == name


async def test_the_end_does_not_wait_for_a_collector_that_does_not_respond(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(traces, "FLUSH_SECONDS", 0.05)
    found, responded = traces.Traces("console"), threading.Event()
    monkeypatch.setattr(found.provider, "shutdown", lambda: responded.wait(20))
    started = time.monotonic()
    try:
        await found.flush()
    finally:
        responded.set()
    assert time.monotonic() - started < 10
    assert "the last spans are lost" in caplog.text

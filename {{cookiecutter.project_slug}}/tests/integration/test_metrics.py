"""The metrics of the service, over its own port and over another one."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import falcon.testing
import httpx
import pytest
from pydantic import ValidationError

from falcon_pachinko.messages import ServerPosition
from falcon_pachinko.server.metrics import METRICS

from {{ cookiecutter.package_name }} import app
from {{ cookiecutter.package_name }}.__main__ import WEBSOCKET_OPTIONS

from ..valkey import free_port

if TYPE_CHECKING:
    from falcon_pachinko.testing.fixtures import RunApp

    from ..conftest import HeadersOf, MakeSettings

TOKEN = "0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
ROW = re.compile(r"\| `(pachinko_\w+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|\n")


async def scrape(port: int) -> str:
    """Return the response of a port of metrics."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        answer = await reader.read()
        writer.close()
    return answer.decode()


async def test_without_a_token_there_are_no_metrics(make_settings: MakeSettings) -> None:
    async with falcon.testing.ASGIConductor(app.create_app(make_settings())) as client:
        assert (await client.simulate_get("/metrics", headers=BEARER)).status_code == 404


async def test_the_token_gives_the_metrics(make_settings: MakeSettings) -> None:
    application = app.create_app(make_settings(metrics_token=TOKEN))
    async with falcon.testing.ASGIConductor(application) as client:
        response = await client.simulate_get("/metrics", headers=BEARER)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"
        assert "pachinko_connections 0.0\n" in response.text
        assert "pachinko_workers 0.0\n" not in response.text
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}):
            refused = await client.simulate_get("/metrics", headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert "pachinko" not in refused.text


async def test_messages_of_the_chat_are_counted_by_type(
    run_app: RunApp, make_settings: MakeSettings, headers_of: HeadersOf, websocket_path: str
) -> None:
    application = app.create_app(make_settings(metrics_token=TOKEN))
    running = await run_app(application, **WEBSOCKET_OPTIONS)
    options: Any = {"headers": headers_of("Alice")}
    async with running.connect(f"{websocket_path}/general", **options) as alice:
        await alice.receive_until(ServerPosition)
        await alice.send("clientSendMessage", {"text": "hello"})
        await alice.receive_until("serverNewMessage")
        transport = httpx.ASGITransport(app=application)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            text = (await client.get("/metrics", headers=BEARER)).text
    assert 'pachinko_messages_in_total{type="clientSendMessage"} 1.0\n' in text
    assert 'pachinko_handler_seconds_count{type="clientSendMessage"} 1.0\n' in text


async def test_the_other_port_needs_no_token_unless_there_is_one(
    make_settings: MakeSettings,
) -> None:
    port = free_port()
    application = app.create_app(make_settings(metrics_port=port))
    async with falcon.testing.ASGIConductor(application) as client:
        assert "\npachinko_processes 1.0\n" in await scrape(port)
        assert (await client.simulate_get("/metrics")).status_code == 404
    with pytest.raises(OSError, match="onnect"):
        await scrape(port)
    application = app.create_app(make_settings(metrics_port=port, metrics_token=TOKEN))
    async with falcon.testing.ASGIConductor(application):
        assert (await scrape(port)).startswith("HTTP/1.1 401 ")


async def test_a_port_that_is_taken_stops_the_start(make_settings: MakeSettings) -> None:
    async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0) as taken:
        port = taken.sockets[0].getsockname()[1]
        application = app.create_app(make_settings(metrics_port=port))
        with pytest.raises(RuntimeError, match=f"APP_METRICS_PORT is {port}, which cannot be"):
            async with falcon.testing.ASGIConductor(application):
                pass


def test_settings_that_cannot_work_are_refused(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for values, expected in (
        ({"metrics_token": "short"}, "APP_METRICS_TOKEN must have 16"),
        ({"metrics_token": "with a space in it"}, "APP_METRICS_TOKEN must have 16"),
        ({"metrics_port": 8000}, "APP_METRICS_PORT is 8000, the port of the service"),
    ):
        with pytest.raises(ValidationError, match=expected):
            make_settings(**values)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    make_settings()
    with pytest.raises(ValidationError, match=r"install the extra 'metrics'"):
        make_settings(metrics_port=9100)


def test_the_documentation_lists_every_metric_with_its_kind_unit_and_labels() -> None:
    rows = ROW.findall(OPERATIONS.read_text("utf-8"))
    documented = {name: (kind, unit, labels) for name, kind, unit, labels, _ in rows}
    assert len(rows) == len(documented)
    assert documented == {
        metric.full_name: (
            metric.kind,
            metric.unit or "1",
            ", ".join(f"`{label}`" for label in metric.labels),
        )
        for metric in METRICS
    }
    assert all(len(alert.split()) <= 40 for *_, alert in rows)

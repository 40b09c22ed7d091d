"""A process that stops lets its clients move to other nodes: with real processes and signals."""

import asyncio
import itertools
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import falcon.asgi
import pytest
import uvicorn

from falcon_pachinko import install
from falcon_pachinko.uvicorn import PushProtocol
from falcon_pachinko.uvicorn.server import DrainingServer
from falcon_pachinko.uvicorn.write_batch import WRITE_BATCHES

from ..support.drain_service import (
    LONGEST,
    SERVICE_RESTART,
    SHORTEST,
    WAIT_SECONDS,
    end_of,
    running,
    wait_in,
)
from ..support.rings import AVAILABLE, needs_ring

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


async def test_the_port_accepts_while_the_process_is_not_ready_then_its_clients_are_closed(
    tmp_path: Path,
) -> None:
    drain = {"delay_seconds": 1.0, "seconds": 2.0, "connections_per_second": 5}
    async with running(tmp_path, drain=drain) as service, AsyncExitStack() as stack:
        clients = [await service.join(f"room{number % 4}") for number in range(20)]
        for client in clients:
            stack.push_async_callback(client.close)
        idle = await asyncio.open_connection("127.0.0.1", service.port)
        stack.callback(idle[1].close)
        assert await service.ready() == 200
        signalled = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        await service.wait_for(lambda: "not ready any more" in service.output())
        assert time.monotonic() - signalled < 0.5
        assert await service.ready() == 503
        clients.append(await service.join("late"))
        ends = await asyncio.gather(*map(end_of, clients))
        times = sorted(at - signalled for at, _, _ in ends)
        assert 1.0 <= times[0] < 1.6
        assert 2.5 <= times[-1] < 3.6
        # NOTE: 21 connections in 2 s are one in 0.1 s.
        assert sum(later - sooner < 0.3 for sooner, later in itertools.pairwise(times)) >= 18
        assert {code for _, code, _ in ends} == {SERVICE_RESTART}
        waits = [wait_in(reason) for _, _, reason in ends]
        assert SHORTEST <= min(waits) < max(waits) <= LONGEST
        assert len(set(waits)) > 5
        assert await idle[0].read() == b"", "an idle connection ends with the drain"
        assert await service.wait_ended() == -signal.SIGTERM
        output = service.output()
    assert output.count(f"ended {SERVICE_RESTART}") == 21
    assert (
        "draining 21 connections in 2 s is 10 a second, above the 5 that another node takes"
        " (APP_DRAIN_CONNECTIONS_PER_SECOND): 5 s would be enough (APP_DRAIN_SECONDS)" in output
    )
    assert "Finished server process" in output


async def test_the_port_is_closed_when_the_delay_is_over(tmp_path: Path) -> None:
    async with running(tmp_path, drain={"seconds": 1.0}) as service, AsyncExitStack() as stack:
        clients = [await service.join("room") for _ in range(4)]
        for client in clients:
            stack.push_async_callback(client.close)
        service.process.send_signal(signal.SIGTERM)
        await service.wait_for(lambda: not service.accepts())
        assert any(client.close_code is None for client in clients)
        for _, _, reason in await asyncio.gather(*map(end_of, clients)):
            assert wait_in(reason) <= LONGEST
        assert await service.wait_ended() == -signal.SIGTERM
    assert "APP_DRAIN" not in service.output()


@pytest.mark.parametrize("phase", ["delay", "drain"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_at_once(
    tmp_path: Path, phase: str, number: signal.Signals
) -> None:
    drain = {"delay_seconds": 60.0 if phase == "delay" else 0.0, "seconds": 60.0}
    async with running(tmp_path, drain=drain) as service, AsyncExitStack() as stack:
        clients = [await service.join("room") for _ in range(10)]
        for client in clients:
            stack.push_async_callback(client.close)
        begun = "not ready any more" if phase == "delay" else "draining: 10 connections"
        service.process.send_signal(number)
        await service.wait_for(lambda: begun in service.output())
        started = time.monotonic()
        service.process.send_signal(number)
        ends = await asyncio.gather(*map(end_of, clients))
        assert max(at for at, _, _ in ends) - started < 2.0
        # The clients return as late as without the second signal, as far as their users remain present.
        waits = sorted(wait_in(reason) for _, _, reason in ends)
        assert 15.0 < waits[-1] <= 30.0 - 5.0
        await service.wait_ended()
        assert time.monotonic() - started < 5.0
    output = service.output()
    assert output.count(f"ended {SERVICE_RESTART}") == 10
    assert "Application shutdown complete" in output


async def test_without_a_drain_all_connections_are_closed_at_once_without_a_wait(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, drain={}) as service:
        clients = [await service.join("room") for _ in range(10)]
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        ends = await asyncio.gather(*map(end_of, clients))
        assert {(code, reason) for _, code, reason in ends} == {(SERVICE_RESTART, "")}
        assert await service.wait_ended() == -signal.SIGTERM
        assert time.monotonic() - started < 2.0


@pytest.mark.parametrize("push", [True, False], ids=["push", "portable"])
async def test_a_client_that_does_not_answer_the_close_gets_its_reason_and_delays_nothing(
    tmp_path: Path, push: bool
) -> None:
    async with running(tmp_path, drain={"seconds": 0.2}, push=push) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        try:
            writer.write(
                b"GET /rooms/a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            await reader.readuntil(b"welcome")
            started = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(WAIT_SECONDS):
                data = await reader.read()
            assert SERVICE_RESTART.to_bytes(2, "big") + b"retry=" in data
            assert await service.wait_ended() == -signal.SIGTERM
            assert time.monotonic() - started < 10.0
        finally:
            writer.close()


@pytest.mark.parametrize("workers", [1, 2])
async def test_each_process_opens_a_ring_on_request(tmp_path: Path, workers: int) -> None:
    options = {"workers": workers, "io_uring": True}
    async with running(tmp_path, drain={}, **options) as service:
        client = await service.join("room")
        await client.close()
        service.process.send_signal(signal.SIGTERM)
        await service.wait_ended()
    line = "io_uring writes to rooms" if AVAILABLE else "io_uring is not available"
    assert service.output().count(line) == workers


@needs_ring
async def test_the_ring_of_a_server_is_closed_with_it() -> None:
    app = install(falcon.asgi.App())
    config = uvicorn.Config(app, port=0, log_config=None, ws=PushProtocol)
    server = DrainingServer(config, io_uring=True)
    batch = WRITE_BATCHES.of(asyncio.get_running_loop())
    task = asyncio.ensure_future(server.serve())
    async with asyncio.timeout(WAIT_SECONDS):
        while not server.started:  # noqa: ASYNC110 - no event announces the change
            await asyncio.sleep(0.01)
        ring = batch.ring
        assert ring is not None
        assert ring is server.ring
        assert ring.is_open
        server.should_exit = True
        await task
    assert not ring.is_open

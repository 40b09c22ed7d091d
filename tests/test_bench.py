"""The benchmarks measure, compare and report; their processes end with them."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.__main__ import check_noise, in_order
from bench.catalog import SERVERS
from bench.cores import Cores
from bench.goal import Goal
from bench.goals import GOALS
from bench.noise import busy_share, noisy_workloads
from bench.run import Effort, plan_for, run_workload
from bench.workload import Workload
from bench.workloads import WORKLOADS
from bench.worst import servers_table, worst_table

BOUND_SECONDS = 180
# The bounds of the work per message are those of Python 3.11; the bytecode of others differs.
SLACK = 1.0 if sys.version_info[:2] == (3, 11) else 1.05
OURS = ["push", "bare", "portable"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need /proc")


def bench(
    root: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "-m", "bench", *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
    )


def processes_with(mark: str) -> list[int]:
    """Return the processes with this variable in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def wait_ended(mark: str) -> None:
    """Wait until no process has this variable in its environment."""
    deadline = time.monotonic() + BOUND_SECONDS
    while left := [pid for pid in processes_with(mark) if pid != os.getpid()]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.05)


@pytest.mark.timeout(150)
def test_small_run_writes_table_record_and_chart(
    root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    workloads = ["fan-out-10", "deflate", "memory"]
    finished = bench(
        root,
        environment,
        *("--only", ",".join(workloads), "--servers", ",".join(OURS), "--connections", "20"),
        *("--starts", "1", "--rounds", "2", "--seconds", "0.02", "--out", str(tmp_path)),
    )
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert sum(line.startswith("  ours, push ") for line in lines) == len(workloads)
    assert any(line.startswith("  memory per idle connection") and "met" in line for line in lines)
    assert any(line.startswith("Other programs take ") for line in lines)
    assert any(line.startswith("Processes are ") for line in lines)

    record = json.loads((tmp_path / "latest.json").read_text("utf-8"))
    assert list(record["workloads"]) == workloads
    for workload in record["workloads"].values():
        assert list(workload["servers"]) == OURS
        for server in workload["servers"].values():
            assert all(value > 0 for value in server["medians"].values())
            for figures in server["rounds"].values():
                assert len(figures) == (1 if workload["kind"] == "memory" else 2)
        assert workload["servers"]["bare"]["of_reference"] == 1.0
    # The framework does not compress so short a message, and every message differs.
    servers = record["workloads"]["deflate"]["servers"]
    assert servers["push"]["medians"]["bytes"] == 110
    assert servers["bare"]["medians"]["bytes"] < 80
    measured = [goal for goal in record["goals"] if goal["measured"] is not None]
    assert [goal["title"] for goal in measured] == [
        "memory per idle connection over bare ASGI, KiB, 5,000 connections, push",
        "memory per idle connection over bare ASGI, KiB, 5,000 connections, portable",
    ]
    assert all(goal["judgement"] and len(goal["quartiles"]) == 3 for goal in measured)
    assert 0 <= record["noise"]["busy_share_before"] <= 1

    words = [text.text for text in ElementTree.parse(tmp_path / "latest.svg").iter() if text.text]
    assert {"ours, push", "ours, portable", "bare ASGI loop", "rooms of 10"} <= set(words)


@pytest.mark.timeout(150)
def test_connects_joins_and_broadcasts_are_measured(
    root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    expected = {
        "exclude-self": ["push", "push-others"],
        "connect": ["push", "picows"],
        "connect-default": ["push"],
        "join": ["push", "chat", "recent"],
        "redis-broadcast": ["push", "push-two-nodes"],
    }
    servers = {server for names in expected.values() for server in names}
    finished = bench(
        root,
        environment,
        *("--only", ",".join(expected), "--servers", ",".join(servers), "--connections", "20"),
        *("--starts", "1", "--rounds", "1", "--seconds", "0.02", "--out", str(tmp_path)),
    )
    assert finished.returncode == 0, finished.stderr
    workloads = json.loads((tmp_path / "latest.json").read_text("utf-8"))["workloads"]
    assert {name: list(workload["servers"]) for name, workload in workloads.items()} == expected
    for name, figure in (
        ("exclude-self", "cpu_us"),
        ("connect", "connect_us"),
        ("connect-default", "connect_us"),
        ("join", "join_10_us"),
        ("join", "join_20_us"),
        ("redis-broadcast", "broadcast_us"),
    ):
        for server in workloads[name]["servers"].values():
            assert server["medians"][figure] > 0, name
    assert workloads["redis-broadcast"]["servers"]["push-two-nodes"]["medians"]["redis_us"] > 0


@pytest.mark.timeout(150)
def test_growing_numbers_of_connections_are_measured_with_several_load_processes(
    root: Path, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = bench(
        root,
        environment,
        *("--only", "scale", "--servers", "push,bare", "--connections", "20"),
        *("--starts", "1", "--rounds", "1", "--seconds", "0.01", "--out", str(tmp_path)),
    )
    assert finished.returncode == 0, finished.stderr
    assert "ours, push, 20  " in finished.stdout
    servers = json.loads((tmp_path / "latest.json").read_text("utf-8"))["workloads"]["scale"]
    for name in ("push", "bare"):
        medians = servers["servers"][name]["medians"]
        assert medians["cpu_20_us"] == medians["cpu_us"] > 0
        assert medians["kib_20"] == medians["kib"]
        assert medians["connect_20_us"] > 0

    workload = Workload(
        name="small", title="", kind="scale", room_members=2, connections=12, stages=(4, 12)
    )
    monkeypatch.setenv("BENCH_MARK", mark := str(tmp_path))
    [push] = [server for server in SERVERS if server.name == "push"]
    for processes in (1, 3):
        # The last process gets its first room with the second number.
        shared = dataclasses.replace(workload, processes=processes)
        outcomes = run_workload(shared, [push], Effort(1, 2, 0.02, Cores()))["push"]
        assert list(outcomes) == [0, 1]
        for outcome in outcomes.values():
            assert all(outcome[name] > 0 for name in ("cpu_4_us", "cpu_12_us", "connect_12_us"))
            assert outcome["cpu_growth"] == outcome["cpu_12_us"] / outcome["cpu_4_us"]
    wait_ended(f"BENCH_MARK={mark}")


def test_processes_of_a_load_client_share_the_rooms_of_a_plan_on_addresses_of_their_own() -> None:
    workload = Workload(name="", title="", room_members=3, connections=15, processes=2)
    [push] = [server for server in SERVERS if server.name == "push"]
    plan = plan_for(workload, push, ports=[1], pids=[2], redis_pid=0)
    first, second = plan.shares()
    assert (first.rooms, second.rooms) == ((3, 3, 3), (3, 3))
    assert (first.address, second.address) == ("127.0.0.1", "127.0.0.2")
    # Rooms have the name of the plan and a number.
    assert first.name != second.name
    assert first.shares() == [first]


def test_a_workload_that_grows_takes_the_connections_that_fit_if_they_are_almost_all() -> None:
    [workload] = [each for each in WORKLOADS if each.name == "scale"]
    assert workload.fitted(20_000) is workload
    fitted = workload.fitted(19_899)
    assert fitted.open_files() == fitted.connections == fitted.stages[-1] == 19_800
    assert fitted.stages[:-1] == workload.stages[:-1]
    assert workload.fitted(15_000) is workload
    [fixed] = [each for each in WORKLOADS if each.name == "connections-10000"]
    assert fixed.fitted(9_900) is fixed


def test_a_busy_machine_is_refused_on_request_and_noted_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert 0 <= busy_share(0.1) <= 1
    check_noise(0.05, refuse=True)
    assert "NOTE" not in capsys.readouterr().out
    check_noise(0.5, refuse=False)
    assert "Other programs take 50% of the machine.\nNOTE: " in capsys.readouterr().out
    with pytest.raises(SystemExit, match="a quiet machine has less than 10% taken by other"):
        check_noise(0.5, refuse=True)


def test_goals_are_judged_in_rounds_of_both_servers_and_with_the_spread() -> None:
    goal = Goal(title="", workload="echo", against="bare", at_most=1.0)
    push = {0: 9.0, 1: 20.0, 2: 99.0}
    results = {
        "echo": {
            "push": {number: {"cpu_us": figure} for number, figure in push.items()},
            "bare": {0: {"cpu_us": 10.0}, 1: {"cpu_us": 10.0}, 5: {"cpu_us": 1.0}},
        }
    }
    values = goal.values(results)
    assert values == [0.9, 2.0]
    assert goal.measured(values) == pytest.approx(1.45)
    assert goal.judgement(values) == "not met"
    assert goal.judgement([0.5, 0.6, 0.7]) == "met"
    assert goal.judgement([0.5, 0.9, 2.0]) == "met, within the spread"
    assert goal.judgement([]) == ""


def test_of_several_runs_each_goal_is_judged_by_the_worst() -> None:
    def record(measured: float | None, judgement: str) -> dict[str, Any]:
        quartiles = [0.5, measured, 1234.5]
        goal = {"title": "a", "at_most": 1 / 6, "measured": measured, "quartiles": quartiles}
        return {"goals": [goal | {"judgement": judgement}]}

    lines = list(worst_table([record(0.12345, "met"), record(None, ""), record(2.0, "not met")]))
    assert lines[0] == "| goal | at most | worst run | other runs |  |"
    assert lines[2:] == ["| a | 0.167 | 2 (0.5 to 1234) | 0.123 | not met |"]


def test_the_servers_of_several_runs_are_listed_with_the_ratios_of_each() -> None:
    def server(title: str, figure: float, ratio: float) -> dict[str, Any]:
        return {"title": title, "of_reference": ratio, "medians": {"cpu_us": figure}}

    def record(**servers: dict[str, Any]) -> dict[str, Any]:
        return {"workloads": {"fan-out-100": {"servers": servers}}}

    first = record(bare=server("bare", 18.0, 1.0), push=server("ours", 11.7, 0.65))
    second = record(bare=server("bare", 16.0, 1.0), push=server("ours", 9.5, 0.615))
    lines = list(servers_table([first, second]))
    assert lines[0] == "| server | CPU per delivery, µs | of the bare loop, in each run |"
    assert lines[2:] == ["| ours | 10.6 | 0.65, 0.615 |", "| bare | 17 | 1, 1 |"]


def test_the_published_tables_are_those_of_the_records(root: Path) -> None:
    paths = sorted((root / "bench/results").glob("*.json"))
    assert len(paths) >= 3
    records = [json.loads(path.read_text("utf-8")) for path in paths]
    text = (root / "docs/performance.md").read_text("utf-8")
    for table in (servers_table(records), worst_table(records)):
        assert "\n".join(table) in text


def test_a_workload_is_noisy_if_a_server_that_does_not_change_varies() -> None:
    def outcomes(*figures: float) -> dict[str, dict[int, dict[str, float]]]:
        return {"floor": {number: {"cpu_us": figure} for number, figure in enumerate(figures)}}

    steady, changing = outcomes(8.0, 8.1, 8.2, 8.3), outcomes(8.0, 9.0, 12.0, 14.0)
    assert noisy_workloads({"echo": steady, "memory": {}}) == {}
    assert list(noisy_workloads({"echo": steady, "join": changing})) == ["join"]


def test_few_servers_run_at_once_with_those_that_others_are_compared_with() -> None:
    known = {workload.name: workload for workload in WORKLOADS}
    workload = known["fan-out-100"]
    assert tuple(server.name for server in in_order(workload, SERVERS)) == workload.servers
    groups = list(workload.groups(workload.servers))
    assert {name for group in groups for name in group} == set(workload.servers)
    for group in groups:
        assert len(group) <= 7
        assert group[:3] == ["push", "bare", "floor"]
    # Both are measured in the same rounds, so a ratio exists.
    for goal in GOALS:
        compared = {goal.server, goal.against or goal.server}
        workload = known[goal.workload]
        assert any(compared <= set(group) for group in workload.groups(workload.servers)), goal


@pytest.mark.timeout(150)
def test_the_work_of_python_per_message_does_not_grow(
    root: Path, environment: dict[str, str]
) -> None:
    path = {"PYTHONPATH": str(root / "{{cookiecutter.project_slug}}/src")}
    finished = subprocess.run(
        [sys.executable, "-B", "-m", "bench.inprocess"],
        cwd=root,
        env=environment | path,
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
    )
    assert finished.returncode == 0, finished.stderr
    cases = json.loads(finished.stdout)
    for case, reference, most in (
        ("echo, push", "echo, bare", 0.74),
        ("echo, portable", "echo, bare", 1.40),
        ("delivery, push", "delivery, bare", 0.070),
        ("delivery, portable", "delivery, bare", 1.28),
    ):
        ratio = cases[case]["instructions"] / cases[reference]["instructions"]
        assert ratio <= most * SLACK, f"{case}: {ratio:.3f} of {reference}"


@pytest.mark.timeout(150)
def test_slow_reader_stalls_the_bare_loop_but_not_the_framework(
    root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    finished = bench(
        root,
        environment,
        *("--only", "stall", "--servers", "push,bare", "--connections", "10"),
        *("--starts", "1", "--seconds", "0.06", "--out", str(tmp_path)),
    )
    assert finished.returncode == 0, finished.stderr
    servers = json.loads((tmp_path / "latest.json").read_text("utf-8"))["workloads"]["stall"]
    ours, bare = (servers["servers"][name]["medians"] for name in ("push", "bare"))
    assert ours["arrived"] > 0.8
    assert bare["arrived"] < 0.6
    assert bare["p99_ms"] > ours["p99_ms"]


@pytest.mark.timeout(150)
def test_workloads_with_redis_and_in_a_shared_process_are_measured(
    root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    expected = {
        "beside": ["bare-beside", "portable-beside"],
        "two-processes": ["push", "push-one-node", "push-two-nodes"],
        "redis-latency": ["push", "push-one-node"],
        "publishing": ["joined", "awaited"],
        "recovery": ["recovery"],
        "drain": ["drain"],
        "visits": ["visits", "visits-alone", "visits-recent"],
    }
    servers = {server for names in expected.values() for server in names}
    mark = f"BENCH_MARK={tmp_path}"
    finished = bench(
        root,
        environment | dict([mark.split("=")]),
        *("--only", ",".join(expected), "--servers", ",".join(servers), "--connections", "20"),
        *("--starts", "1", "--rounds", "1", "--seconds", "0.05", "--out", str(tmp_path)),
    )
    assert finished.returncode == 0, finished.stderr
    workloads = json.loads((tmp_path / "latest.json").read_text("utf-8"))["workloads"]
    assert {name: list(workload["servers"]) for name, workload in workloads.items()} == expected
    for workload in workloads.values():
        for server in workload["servers"].values():
            medians = server["medians"]
            # The figures of visits are differences, which vary more than a few of them take.
            assert medians.get("p99_ms", medians.get("bare_us", medians.get("cpu_us", 0))) > 0
    for name in ("recovery", "drain"):
        assert workloads[name]["servers"][name]["medians"]["complete"] == 1.0
    wait_ended(mark)


def test_unavailable_server_is_skipped_with_a_message(
    root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    empty_path = environment | {"PATH": str(tmp_path)}
    finished = bench(
        root,
        empty_path,
        *(
            "--only",
            "fan-out-100",
            "--servers",
            "bare,floor,floor-uring,ws,bun",
            "--connections",
            "4",
        ),
        *("--starts", "1", "--rounds", "1", "--seconds", "0.02"),
    )
    assert finished.returncode == 0, finished.stderr
    assert "send(2) in a C loop is left out: there is no C compiler, cc" in finished.stdout
    assert "Node ws is left out: there is no node with npm" in finished.stdout
    assert "Bun publish is left out: there is no node with npm" in finished.stdout
    assert "bare ASGI loop" in finished.stdout


@pytest.mark.parametrize("option", ["--only", "--servers"])
def test_unknown_name_is_rejected_in_one_sentence(
    root: Path, environment: dict[str, str], option: str
) -> None:
    finished = bench(root, environment, option, "nonsense")
    assert finished.returncode != 0
    assert "there is no 'nonsense': take some of " in finished.stderr
    assert "Traceback" not in finished.stderr

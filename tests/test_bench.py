"""The benchmarks measure, compare and report; their processes end with them."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

BOUND_SECONDS = 180
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
    assert any("with deflate negotiated  " in line and line.endswith("met") for line in lines)

    record = json.loads((tmp_path / "latest.json").read_text("utf-8"))
    assert list(record["workloads"]) == workloads
    for workload in record["workloads"].values():
        assert list(workload["servers"]) == OURS
        for server in workload["servers"].values():
            assert all(value > 0 for value in server["medians"].values())
            for figures in server["rounds"].values():
                assert len(figures) == (1 if workload["kind"] == "memory" else 2)
        assert workload["servers"]["bare"]["of_reference"] == 1.0
    measured = [goal["title"] for goal in record["goals"] if goal["measured"] is not None]
    assert measured == [
        "the same with deflate negotiated",
        "memory per idle connection over bare ASGI, KiB, 5,000 connections, push",
        "the same, portable",
    ]

    words = [text.text for text in ElementTree.parse(tmp_path / "latest.svg").iter() if text.text]
    assert {"ours, push", "ours, portable", "bare ASGI loop", "rooms of 10"} <= set(words)


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
            assert medians.get("p99_ms", medians.get("cpu_us", 0)) > 0
    for name in ("recovery", "drain"):
        assert workloads[name]["servers"][name]["medians"]["complete"] == 1.0
    deadline = time.monotonic() + BOUND_SECONDS
    while left := processes_with(mark):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.05)


def test_unavailable_server_is_skipped_with_a_message(
    root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    empty_path = environment | {"PATH": str(tmp_path)}
    finished = bench(
        root,
        empty_path,
        *("--only", "fan-out-100", "--servers", "bare,floor,ws", "--connections", "4"),
        *("--starts", "1", "--rounds", "1", "--seconds", "0.02"),
    )
    assert finished.returncode == 0, finished.stderr
    assert "send(2) in a C loop is left out: there is no C compiler, cc" in finished.stdout
    assert "Node ws is left out: there is no node with npm" in finished.stdout
    assert "bare ASGI loop" in finished.stdout


@pytest.mark.parametrize("option", ["--only", "--servers"])
def test_unknown_name_is_rejected_in_one_sentence(
    root: Path, environment: dict[str, str], option: str
) -> None:
    finished = bench(root, environment, option, "nonsense")
    assert finished.returncode != 0
    assert "there is no 'nonsense': take some of " in finished.stderr
    assert "Traceback" not in finished.stderr

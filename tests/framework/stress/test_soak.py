"""The soak test itself: a short run, and its checks; a long run is ``make soak``."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import falcon_pachinko

from .soak import GROWTH_BYTES, GROWTH_OBJECTS, leftovers, process_errors

PROJECT = Path(__file__).parents[3]
SOURCE = Path(falcon_pachinko.__file__).parent.parent

FRESH = {
    "connections": 0,
    "rooms": 0,
    "tasks": 3,
    "objects": 30_000,
    "memory_bytes": 40_000_000,
    "disconnects": 0,
    "slow_readers": 0,
}
WARM = FRESH | {"disconnects": 100, "slow_readers": 1}
LAST = FRESH | {"disconnects": 400, "slow_readers": 4}


def test_nothing_grows_in_a_short_run() -> None:
    soak = ["-m", "tests.framework.stress.soak", "--minutes", "0.1", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, "-B", *soak],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing has grown" in done.stdout


def test_an_orderly_run_has_no_errors() -> None:
    bounds = {
        "objects": WARM["objects"] + GROWTH_OBJECTS,
        "memory_bytes": WARM["memory_bytes"] + GROWTH_BYTES,
    }
    assert leftovers(FRESH, WARM, LAST | bounds) == []
    assert process_errors(0, "INFO: all is well") == []
    assert process_errors(-signal.SIGTERM, "") == []


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        ({"connections": 1}, "1 connections remain although all clients have left"),
        ({"rooms": 2}, "2 rooms remain although all clients have left"),
        ({"tasks": 4}, "4 tasks remain, of 3 at the start"),
        (
            {"objects": WARM["objects"] + GROWTH_OBJECTS + 1},
            f"objects grew by {GROWTH_OBJECTS + 1} after the warm-up: at most {GROWTH_OBJECTS} are allowed",
        ),
        (
            {"memory_bytes": WARM["memory_bytes"] + GROWTH_BYTES + 1},
            f"memory_bytes grew by {GROWTH_BYTES + 1} after the warm-up: at most {GROWTH_BYTES} are allowed",
        ),
        (
            {"disconnects": 100},
            "there were no disconnects after the warm-up: the run is inconclusive",
        ),
        (
            {"slow_readers": 1},
            "there were no slow_readers after the warm-up: the run is inconclusive",
        ),
    ],
    ids=["connections", "rooms", "tasks", "objects", "memory", "disconnects", "slow readers"],
)
def test_leftovers_and_growth_are_reported(last: dict[str, int], sentence: str) -> None:
    assert leftovers(FRESH, WARM, LAST | last) == [sentence]


def test_a_bad_exit_status_and_a_traceback_are_reported() -> None:
    status, traceback = process_errors(
        3, "before\nTraceback (most recent call last):\nZeroDivisionError"
    )
    assert status == "the process exited with status 3"
    assert traceback.startswith("there is a traceback in the log:\nbefore\nTraceback")
    assert traceback.endswith("ZeroDivisionError")

"""The soak runs, and says what is wrong; a real one is ``make soak``."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import falcon_pachinko

from .soak import GROWTH_BYTES, GROWTH_OBJECTS, complaints, leftovers

PROJECT = Path(__file__).parents[3]
SOURCE = Path(falcon_pachinko.__file__).parent.parent

FRESH = {
    "connections": 0,
    "rooms": 0,
    "tasks": 3,
    "objects": 30_000,
    "memory_bytes": 40_000_000,
    "goodbyes": 0,
    "slow_readers": 0,
}
WARM = FRESH | {"goodbyes": 100, "slow_readers": 1}
LAST = FRESH | {"goodbyes": 400, "slow_readers": 4}


def test_in_a_few_seconds_nothing_grows() -> None:
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


def test_an_orderly_end_gives_no_reason_to_complain() -> None:
    bounds = {
        "objects": WARM["objects"] + GROWTH_OBJECTS,
        "memory_bytes": WARM["memory_bytes"] + GROWTH_BYTES,
    }
    assert leftovers(FRESH, WARM, LAST | bounds) == []
    assert complaints(0, "INFO: all is well") == []
    assert complaints(-signal.SIGTERM, "") == []


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        ({"connections": 1}, "1 connections are left though everybody has gone"),
        ({"rooms": 2}, "2 rooms are left though everybody has gone"),
        ({"tasks": 4}, "4 tasks are left of 3 at first"),
        (
            {"objects": WARM["objects"] + GROWTH_OBJECTS + 1},
            f"objects grew by {GROWTH_OBJECTS + 1} after the warm-up: at most {GROWTH_OBJECTS} may be",
        ),
        (
            {"memory_bytes": WARM["memory_bytes"] + GROWTH_BYTES + 1},
            f"memory_bytes grew by {GROWTH_BYTES + 1} after the warm-up: at most {GROWTH_BYTES} may be",
        ),
        ({"goodbyes": 100}, "there were no goodbyes after the warm-up: this soak shows nothing"),
        (
            {"slow_readers": 1},
            "there were no slow_readers after the warm-up: this soak shows nothing",
        ),
    ],
    ids=["connections", "rooms", "tasks", "objects", "memory", "goodbyes", "slow readers"],
)
def test_what_is_left_or_has_grown_is_said(last: dict[str, int], sentence: str) -> None:
    assert leftovers(FRESH, WARM, LAST | last) == [sentence]


def test_a_bad_end_and_a_traceback_are_said() -> None:
    status, traceback = complaints(
        3, "before\nTraceback (most recent call last):\nZeroDivisionError"
    )
    assert status == "the process ended with status 3"
    assert traceback.startswith("there is a traceback in the log:\nbefore\nTraceback")
    assert traceback.endswith("ZeroDivisionError")

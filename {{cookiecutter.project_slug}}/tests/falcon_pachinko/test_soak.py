"""The soak runs; a real one is ``make soak``."""

import os
import subprocess
import sys
from pathlib import Path

import falcon_pachinko

PROJECT = Path(__file__).parents[2]
SOURCE = Path(falcon_pachinko.__file__).parent.parent


def test_in_a_few_seconds_nothing_grows() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-B",
            "-m",
            "tests.falcon_pachinko.soak",
            "--minutes",
            "0.1",
            "--seed",
            "1",
        ],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing has grown" in done.stdout

"""Fetch axe-core, which checks the accessibility of the pages, with npm into the environment.

npm has 15 s. A failure is remembered in the environment, so that the next run does not wait again;
``--again`` (`make axe`) tries once more. The exit status is 0: without axe-core the tests that need it
are skipped, or fail with REQUIRE_AXE=1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

PACKAGE = "axe-core@4.14.1"
BOUND_SECONDS = 15.0
FOLDER = Path(sys.prefix, "axe")
FETCHED = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
FAILURE = FOLDER / "failure.txt"
OPTIONS = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fetch(npm: str, seconds: float) -> str:
    """Run npm, and return why it failed; nothing if it succeeded."""
    process = subprocess.Popen(
        [npm, "install", "--silent", *OPTIONS, "--prefix", str(FOLDER), PACKAGE],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        # On POSIX, npm and its own processes are stopped together.
        start_new_session=True,
    )
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"npm did not finish within {seconds:g} s"
    finally:
        if process.poll() is None:
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
    return f"npm exited with status {status}" if status or not FETCHED.exists() else ""


def main() -> None:
    """Fetch axe-core unless it is there, or an earlier attempt has failed."""
    parser = argparse.ArgumentParser(description="Fetch axe-core with npm.")
    parser.add_argument("--again", action="store_true", help="try again after a failure")
    parser.add_argument("--seconds", type=float, default=BOUND_SECONDS, help="the time for npm")
    given = parser.parse_args()
    if FETCHED.exists():
        return
    failure = FAILURE.read_text("utf-8") if FAILURE.exists() else ""
    npm = shutil.which("npm")
    if npm is None:
        failure = "npm is not installed"
    elif given.again or not failure:
        say(f"Fetching {PACKAGE} with npm, for at most {given.seconds:g} s ...")
        FOLDER.mkdir(exist_ok=True)
        FAILURE.unlink(missing_ok=True)
        failure = fetch(npm, given.seconds)
        if failure:
            FAILURE.write_text(failure, "utf-8")
    if failure:
        say(f"axe-core is missing ({failure}): its tests are skipped. `make axe` fetches it.")


if __name__ == "__main__":
    main()

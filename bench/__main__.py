"""Run the benchmarks and print them as a table."""

from __future__ import annotations

import argparse
import json
import re
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .bounds import describe_bounds
from .catalog import SERVERS, Server
from .chart import MARKS, chart
from .cores import available_cores
from .install import Unavailable
from .measure import CPU_SOURCE, PROC
from .noise import QUIET_SHARE, busy_share
from .record import record
from .run import Effort, Outcomes, run_workload
from .table import goals_table, workload_table
from .workload import Workload
from .workloads import WORKLOADS


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = ", ".join(workload.name for workload in WORKLOADS)
    parser.add_argument("--only", metavar="WORKLOADS", help=f"some of {known}")
    known = ", ".join(server.name for server in SERVERS)
    parser.add_argument("--servers", help=f"some of {known}")
    parser.add_argument(
        "--starts", type=int, default=4, help="how often the servers are started (4)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="measurements per start (3)")
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="duration of a measurement (0.3)"
    )
    parser.add_argument("--quick", action="store_true", help="one start, two short rounds")
    parser.add_argument(
        "--refuse-noise",
        action="store_true",
        help=f"do not run while other programs take more than {QUIET_SHARE:.0%} of the machine",
    )
    parser.add_argument("--connections", type=int, help="upper bound, for tests")
    parser.add_argument("--out", type=Path, help="folder for latest.json and latest.svg")
    return parser.parse_args()


def in_order(workload: Workload, servers: Sequence[Server]) -> list[Server]:
    """Return the servers that participate, in their order in the workload: it decides which of them run at once."""
    by_name = {server.name: server for server in servers}
    return [by_name[name] for name in workload.participants(by_name)]


def select(names: str | None, known: Sequence[str]) -> list[str]:
    """Return the names in a list from the command line, checked."""
    selected = names.split(",") if names else list(known)
    for name in selected:
        if name not in known:
            raise SystemExit(f"there is no {name!r}: take some of {', '.join(known)}")
    return selected


def available(servers: Sequence[Server]) -> list[Server]:
    """Return the servers that can run here; print why others cannot."""
    ready = []
    for server in servers:
        try:
            server.prepare()
            ready.append(server)
        except Unavailable as reason:
            print(f"{server.title} is left out: {reason}", flush=True)
    return ready


# The files that a server opens besides its connections.
OTHER_FILES = 200


def possible(workloads: Sequence[Workload]) -> list[Workload]:
    """Return the workloads whose connections a process may open here; print why others cannot run."""
    _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Child processes inherit it: programs that do not raise it themselves, such as socketify, get it too.
    resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))
    ready = []
    for wanted in workloads:
        workload = wanted.fitted(maximum - OTHER_FILES)
        if workload != wanted:
            print(
                f"{workload.name} has {workload.connections:,} connections instead of"
                f" {wanted.connections:,}: a process may have {maximum:,} open files (ulimit -n)"
            )
        if workload.open_files() + OTHER_FILES <= maximum:
            ready.append(workload)
        else:
            print(
                f"{workload.name} is left out: {workload.open_files():,} connections, but a process may"
                f" have {maximum:,} open files (ulimit -n)"
            )
    return ready


def check_noise(busy: float, *, refuse: bool) -> None:
    """Print the share of the machine that other programs take.

    Raises:
        SystemExit: It is too high, and the run is to be refused then.
    """
    print(f"Other programs take {busy:.0%} of the machine.")
    if busy > QUIET_SHARE:
        text = f"a quiet machine has less than {QUIET_SHARE:.0%} taken by other programs"
        if refuse:
            raise SystemExit(f"{text}: run it later, or without --refuse-noise")
        print(f"NOTE: {text}: do not publish these figures.")


def main() -> None:
    """Run the selected workloads."""
    options = parse_arguments()
    # An exit through SystemExit ends the child processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if not PROC.exists():
        raise SystemExit("CPU time is read from /proc, which this system does not have: use Linux")
    names = select(options.only, [workload.name for workload in WORKLOADS])
    workloads = [workload for workload in WORKLOADS if workload.name in names]
    if options.connections is not None:
        workloads = [workload.limited(options.connections) for workload in workloads]
    workloads = possible(workloads)
    names = select(options.servers, [server.name for server in SERVERS])
    participants = {name for workload in workloads for name in workload.participants(names)}
    servers = available([server for server in SERVERS if server.name in participants])
    effort = Effort(options.starts, options.rounds, options.seconds, available_cores())
    if options.quick:
        effort = Effort(1, 2, 0.15, available_cores())
    busy = busy_share()
    check_noise(busy, refuse=options.refuse_noise)
    print(
        f"CPU is user and system time of all threads of a server ({CPU_SOURCE}), per delivery."
        f"\nFigures are medians of {effort.starts} starts with {effort.rounds} rounds each; ratios are"
        " taken in each round,\nand shown with their interquartile range."
        f"\nOur servers have higher bounds than a service: {describe_bounds()}."
        f"\nProcesses are {effort.cores.describe()}."
    )
    results: dict[str, Outcomes] = {}
    failed: list[str] = []
    started = time.monotonic()
    for workload in workloads:
        selected_servers = in_order(workload, servers)
        if not selected_servers:
            continue
        try:
            results[workload.name] = run_workload(workload, selected_servers, effort)
        except RuntimeError as error:
            failed.append(workload.name)
            print(f"\n{workload.name} failed: {error}", flush=True)
            continue
        lines = workload_table(workload, results[workload.name], servers)
        print("", *lines, sep="\n", flush=True)
    print("", *goals_table(results), sep="\n")
    print(f"\n{time.monotonic() - started:.0f} s")
    if options.out:
        write_results(record(results, workloads, servers, effort, busy), options.out)
    if failed:
        raise SystemExit(f"These workloads failed: {', '.join(failed)}.")


def write_results(results: dict[str, Any], folder: Path) -> None:
    """Write the files that the README links to."""
    folder.mkdir(parents=True, exist_ok=True)
    as_json = json.dumps(results, indent=1, ensure_ascii=False)
    # Lists of figures on one line each.
    as_json = re.sub(r"\[[^][{}]+\]", lambda found: " ".join(found[0].split()), as_json)
    (folder / "latest.json").write_text(as_json + "\n", encoding="utf-8")
    if MARKS.keys() & results["workloads"].keys():
        (folder / "latest.svg").write_text(chart(results), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Run the benchmarks and print them as a table."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .bounds import describe_bounds
from .catalog import SERVERS, Server, Unavailable
from .chart import chart
from .measure import CPU_SOURCE, PROC
from .record import record
from .run import Effort, Outcomes, run_workload
from .table import goals_table, workload_table
from .workloads import WORKLOADS, Workload


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = ", ".join(workload.name for workload in WORKLOADS)
    parser.add_argument("--only", metavar="WORKLOADS", help=f"some of {known}")
    known = ", ".join(server.name for server in SERVERS)
    parser.add_argument("--servers", help=f"some of {known}")
    parser.add_argument(
        "--starts", type=int, default=2, help="how often the servers are started (2)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements per start (5)")
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="duration of a measurement (0.3)"
    )
    parser.add_argument("--quick", action="store_true", help="one start, two short rounds")
    parser.add_argument("--connections", type=int, help="upper bound, for tests")
    parser.add_argument("--out", type=Path, help="folder for latest.json and latest.svg")
    return parser.parse_args()


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


def limited(workload: Workload, connections: int | None) -> Workload:
    """Return the workload with an upper bound of connections."""
    if connections is None:
        return workload
    return dataclasses.replace(
        workload,
        connections=min(workload.connections, connections),
        room_members=min(workload.room_members, connections),
    )


def main() -> None:
    """Run the selected workloads."""
    options = parse_arguments()
    # An exit through SystemExit ends the child processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if not PROC.exists():
        raise SystemExit("CPU time is read from /proc, which this system does not have: use Linux")
    names = select(options.only, [workload.name for workload in WORKLOADS])
    workloads = [limited(w, options.connections) for w in WORKLOADS if w.name in names]
    names = select(options.servers, [server.name for server in SERVERS])
    participants = {name for workload in workloads for name in workload.participants(names)}
    servers = available([server for server in SERVERS if server.name in participants])
    effort = Effort(options.starts, options.rounds, options.seconds)
    if options.quick:
        effort = Effort(starts=1, rounds=2, seconds=0.15)
    print(
        f"CPU is user and system time of all threads of a server ({CPU_SOURCE}), per delivery."
        f"\nFigures are medians of {effort.starts} starts with {effort.rounds} rounds each; ratios are"
        " taken in each round,\nand shown with their interquartile range."
        f"\nOur servers have higher bounds than a service: {describe_bounds()}."
    )
    results: dict[str, Outcomes] = {}
    started = time.monotonic()
    for workload in workloads:
        selected_servers = [s for s in servers if s.name in workload.participants(names)]
        if not selected_servers:
            continue
        results[workload.name] = run_workload(workload, selected_servers, effort)
        lines = workload_table(workload, results[workload.name], servers)
        print("", *lines, sep="\n", flush=True)
    print("", *goals_table(results), sep="\n")
    print(f"\n{time.monotonic() - started:.0f} s")
    if options.out:
        write_results(record(results, workloads, servers, effort), options.out)


def write_results(results: dict[str, Any], folder: Path) -> None:
    """Write the files that the README links to."""
    folder.mkdir(parents=True, exist_ok=True)
    as_json = json.dumps(results, indent=1, ensure_ascii=False)
    # Lists of figures on one line each.
    as_json = re.sub(r"\[[^][{}]+\]", lambda found: " ".join(found[0].split()), as_json)
    (folder / "latest.json").write_text(as_json + "\n", encoding="utf-8")
    if any(name.startswith("fan-out") for name in results["workloads"]):
        (folder / "latest.svg").write_text(chart(results), encoding="utf-8")


if __name__ == "__main__":
    main()

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

from .fleet import SERVERS, Server, Unavailable
from .measure import CPU_SOURCE, PROC
from .picture import picture
from .record import record
from .run import Effort, Outcomes, carry_out
from .table import goals_table, workload_table
from .workloads import WORKLOADS, Workload


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = ", ".join(workload.name for workload in WORKLOADS)
    parser.add_argument("--only", metavar="WORKLOADS", help=f"some of {known}")
    known = ", ".join(server.name for server in SERVERS)
    parser.add_argument("--servers", help=f"some of {known}")
    parser.add_argument("--starts", type=int, default=2, help="start all anew so often (2)")
    parser.add_argument("--rounds", type=int, default=5, help="measure so often per start (5)")
    parser.add_argument("--seconds", type=float, default=0.3, help="per measurement (0.3)")
    parser.add_argument("--quick", action="store_true", help="one start, two short rounds")
    parser.add_argument("--connections", type=int, help="no more than these, for a test")
    parser.add_argument("--out", type=Path, help="write latest.json and latest.svg there")
    return parser.parse_args()


def chosen(names: str | None, known: Sequence[str]) -> list[str]:
    """Check a list of names from the command line."""
    picked = names.split(",") if names else list(known)
    for name in picked:
        if name not in known:
            raise SystemExit(f"there is no {name!r}: take some of {', '.join(known)}")
    return picked


def available(servers: Sequence[Server]) -> list[Server]:
    """Those that can take part here; say why others cannot."""
    ready = []
    for server in servers:
        try:
            server.prepare()
            ready.append(server)
        except Unavailable as reason:
            print(f"{server.title} is left out: {reason}", flush=True)
    return ready


def smaller(workload: Workload, connections: int | None) -> Workload:
    """The same workload with no more connections than these."""
    if connections is None:
        return workload
    return dataclasses.replace(
        workload,
        connections=min(workload.connections, connections),
        room_members=min(workload.room_members, connections),
    )


def main() -> None:
    """Do what the command line asks for."""
    options = arguments()
    # So that all processes are ended then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if not PROC.exists():
        raise SystemExit("CPU time is read from /proc, which this system does not have: use Linux")
    names = chosen(options.only, [workload.name for workload in WORKLOADS])
    workloads = [smaller(w, options.connections) for w in WORKLOADS if w.name in names]
    names = chosen(options.servers, [server.name for server in SERVERS])
    wanted = {name for workload in workloads for name in workload.takes_part(names)}
    servers = available([server for server in SERVERS if server.name in wanted])
    effort = Effort(options.starts, options.rounds, options.seconds)
    if options.quick:
        effort = Effort(starts=1, rounds=2, seconds=0.15)
    print(
        f"CPU is user and system time of all threads of a server ({CPU_SOURCE}), per delivery."
        f"\nFigures are medians of {effort.starts} starts with {effort.rounds} rounds each; ratios are"
        " taken in each round,\nand behind their median stands the middle half of them."
    )
    results: dict[str, Outcomes] = {}
    started = time.monotonic()
    for workload in workloads:
        taking_part = [s for s in servers if s.name in workload.takes_part(names)]
        if not taking_part:
            continue
        results[workload.name] = carry_out(workload, taking_part, effort)
        lines = workload_table(workload, results[workload.name], servers)
        print("", *lines, sep="\n", flush=True)
    print("", *goals_table(results), sep="\n")
    print(f"\n{time.monotonic() - started:.0f} s")
    if options.out:
        keep(record(results, workloads, servers, effort), options.out)


def keep(everything: dict[str, Any], folder: Path) -> None:
    """Write the files that the README shows."""
    folder.mkdir(parents=True, exist_ok=True)
    as_json = json.dumps(everything, indent=1, ensure_ascii=False)
    # A list of figures takes one line.
    as_json = re.sub(r"\[[^][{}]+\]", lambda found: " ".join(found[0].split()), as_json)
    (folder / "latest.json").write_text(as_json + "\n", encoding="utf-8")
    if any(name.startswith("fan-out") for name in everything["workloads"]):
        (folder / "latest.svg").write_text(picture(everything), encoding="utf-8")


if __name__ == "__main__":
    main()

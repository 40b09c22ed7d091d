"""Run the benchmarks: ``python -m bench --help``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence

from .fleet import ROOT, SERVERS, Server, Unavailable, environment, running
from .plan import Outcome, Plan
from .workloads import REFERENCE, WORKLOADS, Workload

LOAD_SECONDS = 120


def measure(workload: Workload, server: Server, seconds: float) -> Outcome:
    """Start a server, let a load client of its own process speak to it, and stop both."""
    with running(server, deflate=workload.deflate) as process:
        filler = "x" * (workload.text_bytes - len(server.message) + len("TEXT"))
        plan = Plan(
            port=process.port,
            pid=process.pid,
            path=workload.path,
            dialect=server.dialect,
            message=server.message.replace("TEXT", filler),
            kind=workload.kind,
            room_members=workload.room_members,
            connections=workload.connections,
            in_flight=workload.in_flight,
            deflate=workload.deflate,
            seconds=seconds,
            messages_per_second=workload.messages_per_second,
        )
        finished = subprocess.run(
            [sys.executable, "-m", "bench.load", json.dumps(dataclasses.asdict(plan))],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=LOAD_SECONDS,
        )
    if finished.returncode != 0:
        raise RuntimeError(f"{workload.name} on {server.name}: {finished.stderr}")
    outcome: Outcome = json.loads(finished.stdout)
    return outcome


def chosen(names: str, known: Sequence[str]) -> list[str]:
    """Check a list of names from the command line."""
    picked = names.split(",") if names else list(known)
    for name in picked:
        if name not in known:
            raise SystemExit(f"there is no {name!r}: take from {', '.join(known)}")
    return picked


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORKLOADS", help="such as fan-out-100,echo")
    parser.add_argument("--servers", default="", help="such as push,bare")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6, help="of each measurement")
    options = parser.parse_args()
    workloads = chosen(options.only, [workload.name for workload in WORKLOADS])
    names = chosen(options.servers, [server.name for server in SERVERS])
    servers = []
    for server in SERVERS:
        if server.name in names:
            try:
                server.prepare()
                servers.append(server)
            except Unavailable as reason:
                print(f"{server.title} is left out: {reason}")
    for workload in WORKLOADS:
        if workload.name not in workloads:
            continue
        outcomes: dict[str, list[Outcome]] = {
            server.name: []
            for server in servers
            if not workload.servers or server.name in workload.servers
        }
        for _ in range(options.rounds):
            for server in servers:
                if server.name in outcomes:
                    outcomes[server.name].append(measure(workload, server, options.seconds))
        print(f"\n{workload.name}: {workload.title} ({workload.unit})")
        for name, found in outcomes.items():
            values = [outcome[workload.unit] for outcome in found]
            line = f"  {name:10s} {statistics.median(values):8.2f}"
            if REFERENCE in outcomes:
                base = [outcome[workload.unit] for outcome in outcomes[REFERENCE]]
                ratios = [value / one for value, one in zip(values, base, strict=True)]
                line += f"  {statistics.median(ratios):6.2f} of {REFERENCE}"
                line += f"  ({min(ratios):.2f} to {max(ratios):.2f})"
            if "client_busy" in found[0]:
                client = statistics.median(outcome["client_busy"] for outcome in found)
                busy = statistics.median(outcome["server_busy"] for outcome in found)
                line += f"  server {busy:4.0%} busy, client {client:4.0%}"
            print(line)


if __name__ == "__main__":
    main()

"""The record of a run: figures, machine and versions."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .catalog import Server
from .goal import Goal, quartiles
from .goals import GOALS
from .install import BUILD, BUN, NODE_PACKAGES, program_version
from .measure import CPU_SOURCE
from .noise import QUIET_SHARE, QUIET_SPREAD, floor_spread, noisy_workloads
from .run import Effort, Outcomes
from .table import ratios
from .workload import Workload

DISTRIBUTIONS = (
    "aiohttp",
    "chanx",
    "channels",
    "Django",
    "falcon",
    "fast-channels",
    "httptools",
    "litestar",
    "msgspec",
    "picows",
    "python-socketio",
    "socketify",
    "starlette",
    "uvicorn",
    "uvloop",
    "websockets",
)


def record(
    results: Mapping[str, Outcomes],
    workloads: Sequence[Workload],
    servers: Sequence[Server],
    effort: Effort,
    busy: float,
) -> dict[str, Any]:
    """Return the record of a run, as an object for JSON; ``busy`` is the share of other programs before it."""
    titles = {server.name: server.title for server in servers}
    noisy = noisy_workloads(results)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "cpu_time_is": f"{CPU_SOURCE}: user + system, of all threads",
        "effort": dataclasses.asdict(effort),
        "noise": {
            "busy_share_before": short(busy),
            "quiet_share": QUIET_SHARE,
            "quiet_spread": QUIET_SPREAD,
            "noisy_workloads": {name: short(spread) for name, spread in noisy.items()},
        },
        "workloads": {
            workload.name: dataclasses.asdict(workload)
            | {
                "floor_spread": floor_spread(results[workload.name]),
                "servers": by_server(workload, results[workload.name], titles),
            }
            for workload in workloads
            if workload.name in results
        },
        "goals": [judged(each, results, noisy) for each in GOALS],
    }


def by_server(
    workload: Workload, outcomes: Outcomes, titles: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return the figures of each server: medians and all rounds."""
    found = {}
    for name, rounds in outcomes.items():
        taken = ratios(workload, outcomes, name)
        known = dict.fromkeys(figure for one in rounds.values() for figure in one)
        each = {figure: [one[figure] for one in rounds.values()] for figure in known}
        found[name] = {
            "title": titles[name],
            "of_reference": short(statistics.median(taken)) if taken else None,
            "medians": {name: short(statistics.median(figures)) for name, figures in each.items()},
            "rounds": {
                name: [short(figure) for figure in figures] for name, figures in each.items()
            },
        }
    return found


def short(figure: float) -> float:
    """Return a figure with five significant digits."""
    return float(f"{figure:.5g}")


def judged(goal: Goal, results: Mapping[str, Outcomes], noisy: Collection[str]) -> dict[str, Any]:
    """Return a goal with its result and spread, ``None`` if it was not measured; ``noisy`` are workloads."""
    values = goal.values(results)
    measured = goal.measured(values)
    return {
        "title": goal.title,
        "at_most": goal.at_most,
        "measured": None if measured is None else short(measured),
        "quartiles": [short(each) for each in quartiles(values)] if values else None,
        "met": None if measured is None else measured <= goal.at_most,
        "judgement": goal.judgement(values, noisy=goal.workload in noisy),
    }


def machine() -> dict[str, Any]:
    """Return the processor and the system."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of the installed packages."""
    found = {"Python": platform.python_version()}
    for distribution in DISTRIBUTIONS:
        try:
            found[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    for name in NODE_PACKAGES:
        package = BUILD / "node_modules" / name / "package.json"
        if package.exists():
            found[f"{name} (npm)"] = json.loads(package.read_text())["version"]
    for title, program in (("Node", "node"), ("Bun", str(BUN))):
        if version := program_version(program):
            found[title] = version
    return found

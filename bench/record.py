"""The record of a run: figures, machine and versions."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .catalog import BUILD, Server
from .goals import GOALS
from .measure import CPU_SOURCE
from .run import Effort, Outcomes
from .table import ratios
from .workloads import Workload

DISTRIBUTIONS = (
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
    "starlette",
    "uvicorn",
    "uvloop",
    "websockets",
)
NODE_SECONDS = 10


def record(
    results: Mapping[str, Outcomes],
    workloads: Sequence[Workload],
    servers: Sequence[Server],
    effort: Effort,
) -> dict[str, Any]:
    """Return the record of a run, as an object for JSON."""
    titles = {server.name: server.title for server in servers}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "cpu_time_is": f"{CPU_SOURCE}: user + system, of all threads",
        "effort": dataclasses.asdict(effort),
        "workloads": {
            workload.name: dataclasses.asdict(workload)
            | {"servers": by_server(workload, results[workload.name], titles)}
            for workload in workloads
            if workload.name in results
        },
        "goals": [goal(each.measured(results), each.title, each.at_most) for each in GOALS],
    }


def by_server(
    workload: Workload, outcomes: Outcomes, titles: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return the figures of each server: medians and all rounds."""
    found = {}
    for name, rounds in outcomes.items():
        taken = ratios(workload, outcomes, name)
        each = {figure: [one[figure] for one in rounds] for figure in rounds[0]}
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


def goal(measured: float | None, title: str, at_most: float) -> dict[str, Any]:
    """Return a goal with its result; ``None`` if it was not measured."""
    met = None if measured is None else measured <= at_most
    measured = None if measured is None else short(measured)
    return {"title": title, "at_most": at_most, "measured": measured, "met": met}


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
    packages = sorted((BUILD / "node_modules").glob("*/package.json"))
    for package in packages:
        if package.parent.name in ("ws", "socket.io"):
            found[f"{package.parent.name} (npm)"] = json.loads(package.read_text())["version"]
    if node := shutil.which("node"):
        finished = subprocess.run(
            [node, "--version"], capture_output=True, text=True, timeout=NODE_SECONDS
        )
        found["Node"] = finished.stdout.strip().removeprefix("v")
    return found

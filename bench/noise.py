"""The noise of the machine: other programs before a run, and the spread of a constant figure within it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

from .measure import PROC
from .run import Outcomes

WATCHED_SECONDS = 2.0
# The share of the machine that other programs take on a quiet one.
QUIET_SHARE = 0.10
# The interquartile range of the floor, relative to its median, on a quiet machine.
QUIET_SPREAD = 0.15
# The servers whose code does not change: the first one that was measured stands for the machine.
CONSTANT = ("floor", "bare", "bare-beside")


def busy_share(seconds: float = WATCHED_SECONDS) -> float:
    """Return the share of all cores that this and other machines on the same hardware take, while this process waits."""
    before = processor_times()
    time.sleep(seconds)
    spent = [b - a for a, b in zip(before, processor_times(), strict=True)]
    # proc(5): user, nice, system, idle, iowait, irq, softirq, steal; later ones are part of user.
    idle = spent[3] + spent[4]
    return 1 - idle / max(1, sum(spent[:8]))


def processor_times() -> list[int]:
    """Return the ticks of all cores, by state."""
    return [int(field) for field in (PROC / "stat").read_text().splitlines()[0].split()[1:]]


def relative_spread(values: Sequence[float]) -> float | None:
    """Return the interquartile range relative to the median; ``None`` with fewer than four values."""
    if len(values) < 4:
        return None
    low, middle, high = statistics.quantiles(values, method="inclusive")
    return (high - low) / middle


def floor_spread(outcomes: Outcomes) -> float | None:
    """Return the spread of the CPU time of a server whose code does not change; ``None`` without one."""
    for server in CONSTANT:
        rounds = outcomes.get(server, {}).values()
        figures = [each["cpu_us"] for each in rounds if "cpu_us" in each]
        if figures:
            return relative_spread(figures)
    return None


def noisy_workloads(results: Mapping[str, Outcomes]) -> dict[str, float]:
    """Return the spread of each workload during which the machine was noisy."""
    spreads = {name: floor_spread(outcomes) for name, outcomes in results.items()}
    return {name: spread for name, spread in spreads.items() if spread and spread > QUIET_SPREAD}

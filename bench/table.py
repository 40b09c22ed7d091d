"""Results as text."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from .fleet import Server
from .goals import GOALS, figures
from .run import Outcomes
from .workloads import Workload

# The head of each column, the figure in it, and how it is written.
COLUMNS = {
    "cpu": [
        ("CPU µs", "cpu_us", "{:.2f}"),
        ("engine µs", "engine_us", "{:.2f}"),
        ("deliveries/s", "deliveries_per_second", "{:,.0f}"),
        ("server busy", "server_busy", "{:.0%}"),
        ("client busy", "client_busy", "{:.0%}"),
    ],
    "memory": [("KiB", "kib", "{:.1f}")],
    "latency": [
        ("messages/s", "messages_per_second", "{:,.0f}"),
        ("p50 ms", "p50_ms", "{:.2f}"),
        ("p99 ms", "p99_ms", "{:.2f}"),
        ("client busy", "client_busy", "{:.0%}"),
    ],
    "paced": [
        ("p50 ms", "p50_ms", "{:.2f}"),
        ("p99 ms", "p99_ms", "{:.2f}"),
        ("client busy", "client_busy", "{:.0%}"),
    ],
    "trial": [
        ("CPU µs", "cpu_us", "{:.1f}"),
        ("messages/s", "messages_per_second", "{:,.0f}"),
        ("p99 ms alone", "p99_alone_ms", "{:.2f}"),
        ("p99 ms", "p99_ms", "{:.2f}"),
        ("whole", "whole", "{:.1%}"),
        ("seconds", "seconds", "{:.2f}"),
    ],
    "stall": [
        ("p99 ms alone", "p99_alone_ms", "{:.2f}"),
        ("p99 ms stalled", "p99_ms", "{:.2f}"),
        ("ratio", "p99_ratio", "{:.2f}"),
        ("arrived", "arrived", "{:.0%}"),
        ("memory KiB", "grown_kib", "{:+,.0f}"),
        ("client busy", "client_busy", "{:.0%}"),
    ],
}
# What is compared with the reference.
MAIN_FIGURE = {"cpu": "cpu_us", "memory": "kib", "latency": "p99_ms"}


def ratios(workload: Workload, outcomes: Outcomes, server: str) -> list[float]:
    """What a server takes of the reference, round by round; empty where that did not take part."""
    figure = MAIN_FIGURE.get(workload.kind, "")
    if not figure:
        return []
    own = figures(outcomes, server, figure)
    others = figures(outcomes, workload.reference, figure)
    return [a / b for a, b in zip(own, others, strict=False)]


def workload_table(
    workload: Workload, outcomes: Outcomes, servers: Sequence[Server]
) -> Iterator[str]:
    """A line for each server."""
    known = {figure for rounds in outcomes.values() for outcome in rounds for figure in outcome}
    columns = [column for column in COLUMNS[workload.kind] if column[1] in known]
    titles = {server.name: server.title for server in servers}
    compared = workload.kind in MAIN_FIGURE
    rows = [["", *(head for head, _, _ in columns), *["of the reference"] * compared]]
    for name, rounds in outcomes.items():
        row = [titles[name]]
        for _, figure, form in columns:
            values = [outcome[figure] for outcome in rounds if figure in outcome]
            row.append(form.format(statistics.median(values)) if values else "")
        if compared:
            taken = ratios(workload, outcomes, name)
            row.append(spread(taken) if taken else "")
        rows.append(row)
    yield f"{workload.name}: {workload.title}"
    yield from aligned(rows)


def spread(values: Sequence[float]) -> str:
    """The median, and the middle half of all."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, method="inclusive")
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def goals_table(results: Mapping[str, Outcomes]) -> Iterator[str]:
    """A line for each goal of what was run."""
    rows = [["goal", "at most", "measured", ""]]
    for goal in GOALS:
        if goal.workload not in results:
            continue
        measured = goal.measured(results)
        said = "" if measured is None else "met" if measured <= goal.at_most else "not met"
        value = "not measured" if measured is None else f"{measured:.3f}"
        rows.append([goal.what, f"{goal.at_most:.3f}", value, said])
    yield from aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns of equal width: words to the left, figures to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([f"  {first:<{widths[0]}}", *cells]).rstrip()

"""Tables of the results."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from .catalog import Server
from .goals import GOALS, figures
from .run import Outcomes
from .workloads import Workload

# The heading, the figure and the format of each column.
COLUMNS = {
    "cpu": [
        ("CPU µs", "cpu_us", "{:.2f}"),
        ("Valkey µs", "redis_us", "{:.2f}"),
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
        ("of Valkey", "redis_us", "{:.1f}"),
        ("messages/s", "messages_per_second", "{:,.0f}"),
        ("p99 ms alone", "p99_alone_ms", "{:.2f}"),
        ("p99 ms", "p99_ms", "{:.2f}"),
        ("complete", "complete", "{:.1%}"),
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
# The figure that is compared with the reference.
MAIN_FIGURE = {"cpu": "cpu_us", "memory": "kib", "latency": "p99_ms"}


def ratios(workload: Workload, outcomes: Outcomes, server: str) -> list[float]:
    """Return the ratios to the reference, by round; empty without the reference."""
    figure = MAIN_FIGURE.get(workload.kind, "")
    if not figure:
        return []
    own = figures(outcomes, server, figure)
    others = figures(outcomes, workload.reference, figure)
    return [a / b for a, b in zip(own, others, strict=False)]


def workload_table(
    workload: Workload, outcomes: Outcomes, servers: Sequence[Server]
) -> Iterator[str]:
    """Yield a line for each server."""
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
    """Return the median and the interquartile range."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, method="inclusive")
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def goals_table(results: Mapping[str, Outcomes]) -> Iterator[str]:
    """Yield a line for each goal of the workloads."""
    rows = [["goal", "at most", "measured", ""]]
    for goal in GOALS:
        if goal.workload not in results:
            continue
        measured = goal.measured(results)
        status = "" if measured is None else "met" if measured <= goal.at_most else "not met"
        value = "not measured" if measured is None else f"{measured:.3f}"
        rows.append([goal.title, f"{goal.at_most:.3f}", value, status])
    yield from aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows in columns of equal width: text to the left, figures to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([f"  {first:<{widths[0]}}", *cells]).rstrip()

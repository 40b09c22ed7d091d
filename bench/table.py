"""Tables of the results."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from .catalog import Server
from .goal import figures, pairs, quartiles
from .goals import GOALS
from .noise import QUIET_SPREAD, floor_spread, noisy_workloads
from .run import Outcomes, at_stage
from .workload import Workload

# The heading, the figure and the format of each column.
COLUMNS = {
    "cpu": [
        ("CPU µs", "cpu_us", "{:.2f}"),
        ("Valkey µs", "redis_us", "{:.2f}"),
        ("bytes", "bytes", "{:.0f}"),
        ("deliveries/s", "deliveries_per_second", "{:,.0f}"),
        ("server busy", "server_busy", "{:.0%}"),
        ("client busy", "client_busy", "{:.0%}"),
    ],
    "broadcast": [
        ("CPU µs", "broadcast_us", "{:.0f}"),
        ("Valkey µs", "redis_broadcast_us", "{:.0f}"),
        ("server busy", "server_busy", "{:.0%}"),
        ("client busy", "client_busy", "{:.0%}"),
    ],
    "connect": [
        ("CPU µs", "cpu_us", "{:.0f}"),
        ("connect", "connect_us", "{:.0f}"),
        ("disconnect", "disconnect_us", "{:.0f}"),
    ],
    "join": [
        (f"{action}, N={size}", f"{action}_{size}_us", "{:,.0f}")
        for action in ("join", "leave")
        for size in (10, 20, 100, 1_000, 2_000)
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
    "scale": [
        ("CPU µs", "cpu_us", "{:.2f}"),
        ("KiB", "kib", "{:.1f}"),
        ("connect µs", "connect_us", "{:.0f}"),
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
MAIN_FIGURE = {
    "cpu": "cpu_us",
    "broadcast": "broadcast_us",
    "connect": "cpu_us",
    "memory": "kib",
    "latency": "p99_ms",
    "scale": "cpu_us",
}


def ratios(workload: Workload, outcomes: Outcomes, server: str) -> list[float]:
    """Return the ratios to the reference, by round; empty without the reference."""
    figure = MAIN_FIGURE.get(workload.kind, "")
    if not figure:
        return []
    own, others = (figures(outcomes, name, figure) for name in (server, workload.reference))
    return [a / b for a, b in pairs(own, others)]


def workload_table(
    workload: Workload, outcomes: Outcomes, servers: Sequence[Server]
) -> Iterator[str]:
    """Yield a line for each server, or for each server with each number of connections."""
    known = {figure for rounds in outcomes.values() for each in rounds.values() for figure in each}
    columns = [column for column in COLUMNS[workload.kind] if column[1] in known]
    titles = {server.name: server.title for server in servers}
    compared = workload.kind in MAIN_FIGURE
    rows = [["", *(head for head, _, _ in columns), *["of the reference"] * compared]]
    parts = [(f", {stage:,}", at_stage(outcomes, stage)) for stage in workload.stages]
    for suffix, part in parts or [("", outcomes)]:
        for name, rounds in part.items():
            row = [titles[name] + suffix]
            for _, figure, form in columns:
                values = [each[figure] for each in rounds.values() if figure in each]
                row.append(form.format(statistics.median(values)) if values else "")
            if compared:
                taken = ratios(workload, part, name)
                row.append(spread(taken) if taken else "")
            rows.append(row)
    yield f"{workload.name}: {workload.title}"
    yield from aligned(rows)
    measured = floor_spread(outcomes)
    if measured is not None:
        noisy = ", so the machine was noisy" if measured > QUIET_SPREAD else ""
        yield f"  The spread of a server that does not change was {measured:.0%}{noisy}."


def spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    """Return the median and the interquartile range."""
    low, middle, high = (form.format(value) for value in quartiles(values))
    return middle if len(values) < 2 else f"{middle} ({low} to {high})"


def goals_table(results: Mapping[str, Outcomes]) -> Iterator[str]:
    """Yield a line for each goal of the workloads."""
    rows = [["goal", "at most", "measured", ""]]
    noisy = noisy_workloads(results)
    for goal in GOALS:
        if goal.workload not in results:
            continue
        values = goal.values(results)
        measured = spread(values, "{:.3f}") if values else "not measured"
        judgement = goal.judgement(values, noisy=goal.workload in noisy)
        rows.append([goal.title, f"{goal.at_most:.3f}", measured, judgement])
    yield from aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows in columns of equal width: text to the left, figures to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([f"  {first:<{widths[0]}}", *cells]).rstrip()

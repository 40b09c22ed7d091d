"""A chart of the results: the CPU time of each server per delivery, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

WIDTH, ROW, TOP, LEFT, RIGHT, FOOT = 880, 30, 92, 220, 70, 62
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
# Distinct without colours too: a circle, a square, a diamond.
MARKS = {
    "fan-out-10": ("#b45309", "rooms of 10"),
    "fan-out-100": ("#1d4ed8", "rooms of 100"),
    "fan-out-1000": ("#047857", "a room of 1,000"),
}
INK, FAINT, PAPER, OURS = "#1f2937", "#d1d5db", "#ffffff", "#eff6ff"


def chart(record: Mapping[str, Any]) -> str:
    """Return an SVG of the measured fan-out, with its own background for dark pages."""
    charts = {name: record["workloads"][name] for name in MARKS if name in record["workloads"]}
    rows = sorted_rows(charts)
    values = [value for _, _, found in rows for value in found.values()]
    low, high = scale_ends(values)

    def x(value: float) -> float:
        share = math.log(value / low) / math.log(high / low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    height = TOP + ROW * len(rows) + FOOT
    bottom = TOP + ROW * len(rows)
    machine = record["machine"]
    caption = (
        f"110 bytes to 600 connections, in the room of 1,000 to 1,000; medians; {record['date']}, "
        f"{machine['processor']}, {machine['cores']} cores, Python {record['versions']['Python']}"
    )
    if charts.keys() & record["noise"]["noisy_workloads"].keys():
        caption += "; on a noisy machine"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        text(20, 30, "Server CPU time per delivered message, µs", size=17, weight=600),
        text(20, 50, "user and system; less is better; logarithmic scale"),
    ]
    lines += legend(charts)
    for row, (name, _, _) in enumerate(rows):
        middle = TOP + ROW * row + ROW / 2
        if name in ("push", "portable"):
            lines.append(
                f'<rect x="10" y="{middle - ROW / 2}" width="{WIDTH - 20}" height="{ROW}" '
                f'rx="4" fill="{OURS}"/>'
            )
    for tick in TICKS:
        if low <= tick <= high:
            lines.append(
                f'<line x1="{x(tick)}" x2="{x(tick)}" y1="{TOP}" y2="{bottom}" stroke="{FAINT}"/>'
            )
            lines.append(text(x(tick), bottom + 18, f"{tick:g}", anchor="middle"))
    for row, (_, title, found) in enumerate(rows):
        middle = TOP + ROW * row + ROW / 2
        lines.append(text(LEFT - 14, middle + 4, title, anchor="end"))
        lines += [mark(chart, x(value), middle) for chart, value in found.items()]
        last = max(found.values())
        main = found.get("fan-out-100", last)
        lines.append(text(x(last) + 12, middle + 4, f"{main:.1f}", weight=600))
    lines.append(text(20, height - 16, caption, size=11))
    return "\n".join([*lines, "</svg>", ""])


def sorted_rows(charts: Mapping[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    """Return name, title and figures of each server, the cheapest first."""
    rows: dict[str, tuple[str, str, dict[str, float]]] = {}
    for chart, workload in charts.items():
        for name, server in workload["servers"].items():
            row = rows.setdefault(name, (name, server["title"], {}))
            row[2][chart] = server["medians"]["cpu_us"]
    return sorted(rows.values(), key=lambda row: row[2].get("fan-out-100", max(row[2].values())))


def scale_ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the ticks around all values."""
    low = max((tick for tick in TICKS if tick <= min(values)), default=TICKS[0])
    high = min((tick for tick in TICKS if tick >= max(values) * 1.1), default=TICKS[-1])
    return low, max(high, 2 * low)


def legend(charts: Mapping[str, Any]) -> list[str]:
    """Return the legend of the marks."""
    lines, left = [], LEFT
    for chart in charts:
        lines.append(mark(chart, left, 72))
        lines.append(text(left + 12, 76, MARKS[chart][1]))
        left += 130
    lines.append(text(left, 76, "the figure: rooms of 100" if "fan-out-100" in charts else ""))
    return lines


def mark(chart: str, x: float, y: float) -> str:
    """Return the mark of a value."""
    colour, _ = MARKS[chart]
    if chart == "fan-out-10":
        return f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}"/>'
    if chart == "fan-out-100":
        return f'<rect x="{x - 5}" y="{y - 5}" width="10" height="10" fill="{colour}"/>'
    points = f"{x},{y - 6.5} {x + 6.5},{y} {x},{y + 6.5} {x - 6.5},{y}"
    return f'<polygon points="{points}" fill="{colour}"/>'


def text(
    x: float, y: float, content: str, *, size: int = 13, weight: int = 400, anchor: str = "start"
) -> str:
    """Return a text element."""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">'
        f"{escape(content)}</text>"
    )

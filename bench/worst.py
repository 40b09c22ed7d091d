"""The figures of several runs, as tables in Markdown: ``python -m bench.worst bench/results/*.json``."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

HEAD = ("goal", "at most", "worst run", "other runs", "")
# The workload whose servers are listed.
WORKLOAD = "fan-out-100"
SERVERS_HEAD = ("server", "CPU per delivery, µs", "of the bare loop, in each run")


def servers_table(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table with the servers of the fan-out in rooms of 100, the cheapest first.

    The CPU time is the median of the runs; each ratio is the median of those in the rounds of a run.

    Args:
        records: The records of the runs (:mod:`.record`).
    """
    runs = [record["workloads"][WORKLOAD]["servers"] for record in records]
    found = []
    for name in runs[0]:
        measured = [run[name] for run in runs if name in run]
        ratios = [server["of_reference"] for server in measured]
        figure = statistics.median(server["medians"]["cpu_us"] for server in measured)
        found.append((statistics.median(ratios), measured[0]["title"], figure, ratios))
    yield row(*SERVERS_HEAD)
    yield row(*["---"] * len(SERVERS_HEAD))
    for _, title, figure, ratios in sorted(found):
        yield row(title, short(figure), ", ".join(map(short, ratios)))


def worst_table(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table with a row for each goal, judged in the run in which it was missed by most.

    Args:
        records: The records of the runs (:mod:`.record`), with the same goals.
    """
    yield row(*HEAD)
    yield row(*["---"] * len(HEAD))
    for goals in zip(*(record["goals"] for record in records), strict=True):
        measured = [goal for goal in goals if goal["measured"] is not None]
        if not measured:
            continue
        worst, *others = sorted(measured, key=itemgetter("measured"), reverse=True)
        low, _, high = worst["quartiles"]
        yield row(
            worst["title"],
            short(worst["at_most"]),
            f"{short(worst['measured'])} ({short(low)} to {short(high)})",
            ", ".join(short(goal["measured"]) for goal in others),
            worst["judgement"],
        )


def short(figure: float) -> str:
    """Return a figure with three significant digits, a large one as a whole number."""
    return f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def row(*cells: str) -> str:
    """Return a row of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the tables of the records that the command line names."""
    records = [json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:]]
    print(*servers_table(records), "", *worst_table(records), sep="\n")


if __name__ == "__main__":
    main()

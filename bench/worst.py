"""The goals in the worst of several runs, as a table in Markdown: ``python -m bench.worst bench/results/*.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

HEAD = ("goal", "at most", "worst run", "other runs", "")


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
    """Print the table of the records that the command line names."""
    print(*worst_table([json.loads(Path(path).read_text()) for path in sys.argv[1:]]), sep="\n")


if __name__ == "__main__":
    main()

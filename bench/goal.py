"""A bound for a figure, its values in the rounds of a run, and its judgement."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .run import Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound for one figure.

    Attributes:
        title: A description.
        workload: The name of the workload.
        server: The name of the server.
        figure: The name of the figure.
        against: The server that it is compared with in each round; empty for the figure itself.
        against_figure: The figure of that server; empty for the same one.
        difference: Whether the difference is bounded; otherwise the ratio.
        worst: Whether the worst round is bounded; otherwise the median.
        at_most: The bound.
    """

    title: str
    workload: str
    server: str = "push"
    figure: str = "cpu_us"
    against: str = ""
    against_figure: str = ""
    difference: bool = False
    worst: bool = False
    at_most: float

    def values(self, results: Mapping[str, Outcomes]) -> list[float]:
        """Return the figure of each round, compared; empty if it was not measured."""
        outcomes = results.get(self.workload, {})
        own = figures(outcomes, self.server, self.figure)
        if not self.against:
            return list(own.values())
        others = figures(outcomes, self.against, self.against_figure or self.figure)
        return [a - b if self.difference else a / b for a, b in pairs(own, others)]

    def measured(self, values: Sequence[float]) -> float | None:
        """Return the median or the worst of the values; ``None`` without any."""
        if not values:
            return None
        return max(values) if self.worst else statistics.median(values)

    def judgement(self, values: Sequence[float], *, noisy: bool = False) -> str:
        """Return whether the goal is met, within the spread, and on a noisy machine; empty without values."""
        measured = self.measured(values)
        if measured is None:
            return ""
        met = "met" if measured <= self.at_most else "not met"
        low, _, high = quartiles(values)
        # Another run may say the opposite.
        within = ", within the spread" if low < self.at_most < high else ""
        return met + within + ", on a noisy machine" * noisy


def figures(outcomes: Outcomes, server: str, figure: str) -> dict[int, float]:
    """Return a figure of a server, by round."""
    rounds = outcomes.get(server, {})
    return {number: outcome[figure] for number, outcome in rounds.items() if figure in outcome}


def pairs(own: Mapping[int, float], others: Mapping[int, float]) -> list[tuple[float, float]]:
    """Return the figures of the rounds in which both were measured."""
    return [(figure, others[number]) for number, figure in own.items() if number in others]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile; with one value, this value."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, method="inclusive")
    return low, middle, high

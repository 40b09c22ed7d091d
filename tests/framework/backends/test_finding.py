"""Findings: one line for operators each."""

import dataclasses

import pytest

from falcon_pachinko.backends.finding import Finding, Outcome


def test_a_line_names_the_outcome_and_the_next_step() -> None:
    assert str(Finding(Outcome.OK, "clock", "0.0 s")) == "ok       clock: 0.0 s"
    assert str(Finding(Outcome.FAILURE, "a", "b", "c")) == "failure  a: b; next: c"


def test_the_subjects_of_all_outcomes_are_aligned() -> None:
    lines = [str(Finding(outcome, "clock", "text")) for outcome in Outcome]
    assert {line.index("clock") for line in lines} == {9}


def test_findings_are_equal_by_value_and_do_not_change() -> None:
    finding = Finding(Outcome.WARNING, "a", "b")
    assert finding == Finding(Outcome.WARNING, "a", "b", next_step="")
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding.text = "c"  # type: ignore[misc]

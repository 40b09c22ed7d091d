"""The result of one check of a deployment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a check has ended."""

    OK = "ok"
    SKIPPED = "skipped"
    """It could not be made, such as without a right that the service itself does not need."""
    WARNING = "warning"
    FAILURE = "failure"
    """The service cannot work like this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; ``str()`` is a line for operators.

    Attributes:
        outcome: How the check has ended.
        subject: What was checked.
        text: What was found.
        next_step: What to do about it; empty if there is nothing to do.
    """

    outcome: Outcome
    subject: str
    text: str
    next_step: str = ""

    def __str__(self) -> str:
        line = f"{self.outcome:<7}  {self.subject}: {self.text}"
        return f"{line}; next: {self.next_step}" if self.next_step else line

"""The list of users of the chat page, in Node."""

from __future__ import annotations

import re
from pathlib import Path

from .test_realtime import node, run

__all__ = ["node"]

ROSTER = next(Path(__file__).parents[2].glob("src/*/web/chat/roster.js"))


def test_the_number_and_the_users_are_right_after_any_message(node: list[str]) -> None:
    finished = run(
        [*node, "--test", "--test-reporter=tap", "roster.test.js"], ROSTER=ROSTER.as_uri()
    )
    assert finished.returncode == 0, finished.stdout
    passed = re.search(r"^# pass (\d+)$", finished.stdout, re.MULTILINE)
    assert passed is not None, finished.stdout
    assert int(passed[1]) == 9, finished.stdout

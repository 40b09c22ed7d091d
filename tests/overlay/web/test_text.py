"""Links and code in messages of the chat page, in Node."""

from __future__ import annotations

import re
from pathlib import Path

from .test_realtime import node, run

__all__ = ["node"]

TEXT = next(Path(__file__).parents[2].glob("src/*/web/chat/text.js"))


def test_links_and_code_are_found_in_any_text(node: list[str]) -> None:
    finished = run([*node, "--test", "--test-reporter=tap", "text.test.js"], TEXT=TEXT.as_uri())
    assert finished.returncode == 0, finished.stdout
    passed = re.search(r"^# pass (\d+)$", finished.stdout, re.MULTILINE)
    assert passed is not None, finished.stdout
    assert int(passed[1]) == 9, finished.stdout

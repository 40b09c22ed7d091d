"""The code blocks of a document: a comment before a block names the file that the block belongs into."""

import json
import re
from pathlib import Path

# A comment that names a step, and the code block it applies to, if the step has one.
STEP = re.compile(r"^<!-- ([^\n]+) -->\n(?:```\w+\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)


def steps_of(text: str) -> list[tuple[str, str]]:
    """Return the steps of a document, each with its code block or an empty text."""
    return STEP.findall(text)


def write_block(folder: Path, step: str, block: str) -> bool:
    """Write a block into a file of a project; return whether the step names a file.

    The steps are ``new FILE``, ``at the end of FILE``, and ``in FILE above|below|instead of "TEXT"``, whose text is
    written as in JSON and must occur once in the file.
    """
    if new := re.fullmatch(r"new (\S+)", step):
        path = folder / new[1]
        assert not path.exists(), path
        path.write_text(block, "utf-8")
    elif end := re.fullmatch(r"at the end of (\S+)", step):
        with (folder / end[1]).open("a", encoding="utf-8") as file:
            file.write(block)
    elif inside := re.fullmatch(r"in (\S+) (above|below|instead of) (\".+\")", step):
        path = folder / inside[1]
        path.write_text(inserted(path, inside[2], json.loads(inside[3]), block), "utf-8")
    else:
        return False
    return True


def inserted(path: Path, where: str, anchor: str, block: str) -> str:
    """Return the text of a file with a block above or below its anchor text, or instead of it."""
    text = path.read_text("utf-8")
    assert text.count(anchor) == 1, f"{path} has {anchor!r} {text.count(anchor)} times"
    before, _, after = text.partition(anchor)
    if where == "above":
        return before + block + anchor + after
    if where == "below":
        assert after.startswith("\n"), f"{anchor!r} is not a whole line of {path}"
        return f"{before}{anchor}\n{block}{after[1:]}"
    return before + block.removesuffix("\n") + after
